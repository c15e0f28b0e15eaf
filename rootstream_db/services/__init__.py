"""What is done: the work of the data layer, one capability a module or package."""
