"""Events of older forms on their way to webhooks: brought up to date, or left to wait."""

from __future__ import annotations

import json

from rootstream_db.models import DeliveryState


def test_an_event_of_an_older_form_is_sent_in_its_present_one(
    events, webhooks, add, happen, receiver
):
    @events.upcasters.upcasts("Happened", from_version=1)
    def name_the_count(data):
        return {"count": data["number"]}

    add(receiver.url(), event_types=["Happened"])
    happen()
    webhooks.relay()
    webhooks.deliver()

    [request] = receiver.received
    message = json.loads(request.body)
    assert ({"count": 0}, 2) == (message["data"], message["event"]["schema_version"])


def test_an_event_that_cannot_be_brought_up_to_date_holds_up_no_other(
    events, webhooks, add, happen, receiver, log
):
    @events.upcasters.upcasts("Broken", from_version=1)
    def stumble(data):
        raise KeyError(data["number"])

    endpoint, _ = add(receiver.url(), event_types=["Broken", "Happened"])
    happen(event_type="Broken")
    happen()
    webhooks.relay()
    webhooks.deliver()

    assert ["Happened"] == [json.loads(one.body)["type"] for one in receiver.received]
    (waiting, [attempt]), _ = log(endpoint)
    assert DeliveryState.PENDING == waiting.state
    assert "the event cannot be brought up to date: KeyError" == attempt.error
