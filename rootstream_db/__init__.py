"""RootStream DB: the data layer of a live-streaming platform."""
