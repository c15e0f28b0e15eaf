"""What a receiver gets of an event: nothing personal."""

from __future__ import annotations

import json


def test_personal_fields_are_not_sent(committed_database, events, webhooks, add, receiver):
    add(receiver.url(), event_types=["Joined"])
    with committed_database.transaction() as work:
        events.append(
            work, "Member", "1", "Joined", {"plan": "free"}, personal={"email": "x"}, user_id=1
        )
    webhooks.relay()
    webhooks.deliver()

    [request] = receiver.received
    assert {"plan": "free"} == json.loads(request.body)["data"]
    assert b"email" not in request.body
