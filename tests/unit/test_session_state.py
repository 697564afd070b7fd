"""The table of the agent's session: each row is reached, and each other event is impossible."""

from __future__ import annotations

import pytest

from tests.unit.test_agent import HEARTBEAT_MS, TIMEOUT_MS, Dialogue, order, registered
from zsched.model.limits import SILENT_PARTS
from zsched.protocol import Dispatch, Error, Heartbeat, HeartbeatAck, Register
from zsched.worker.agent.agent import EXIT_REFUSED
from zsched.worker.agent.session import MOVES, IllegalMoveError, SessionEvent, Status
from zsched.worker.messages import Session, State, Unstarted

# Drawn by hand: what a session may do.
DRAWN = {
    Status.UNREGISTERED: {"register": "registering", "refuse": "refused", "leave": "leaving"},
    Status.REGISTERING: {"register": "registering", "accept": "registered", "refuse": "refused", "leave": "leaving"},
    Status.REGISTERED: {"accept": "registered", "lose": "withdrawing", "refuse": "refused", "leave": "leaving"},
    Status.WITHDRAWING: {"withdraw": "unregistered", "refuse": "refused", "leave": "leaving"},
    Status.REFUSED: {},
    Status.LEAVING: {},
}
WITHDRAWN = Unstarted((), withdrawn=True)
LEAVE = State("d1", stopping=True, leave=True)


def dialogue(status: Status) -> Dialogue:
    """An agent whose session is in that state."""
    d = Dialogue(db="d1")
    if status is Status.UNREGISTERED:
        return d
    d.tick()
    if status in (Status.REGISTERED, Status.WITHDRAWING):
        d.hear(registered())
    if status is Status.WITHDRAWING:
        d.agent.on_disconnected(d.now)
    if status is Status.REFUSED:
        d.agent.on_refused("the key is unknown")
    if status is Status.LEAVING:
        d.guard(LEAVE)
    d.sent()
    d.agent.to_guard.clear()
    return d


def status(d: Dialogue) -> Status:
    return d.agent._session.status


def cause(d: Dialogue, event: SessionEvent) -> None:
    """Let the event happen as it does in a process."""
    match event:
        case SessionEvent.REGISTER:
            d.agent.on_connected(d.now)
            d.tick()
        case SessionEvent.ACCEPT:
            d.hear(registered("s2"))
        case SessionEvent.LOSE:
            d.agent.on_disconnected(d.now)
        case SessionEvent.WITHDRAW:
            d.guard(WITHDRAWN)
        case SessionEvent.REFUSE:
            d.hear(Error(code="E_KEY", detail="the key is unknown", fatal=True))
        case SessionEvent.LEAVE:
            d.guard(LEAVE)


def test_the_table_is_as_drawn() -> None:
    rows = {
        before: {event.value: after.value for (one, event), after in MOVES.items() if one is before}
        for before in Status
    }
    assert rows == DRAWN


@pytest.mark.parametrize(("before", "event"), MOVES, ids=lambda item: item.value)
def test_each_row_of_the_table_is_reached(before: Status, event: SessionEvent) -> None:
    d = dialogue(before)
    assert status(d) is before
    cause(d, event)
    assert status(d) is MOVES[before, event]
    assert d.agent.registered is (status(d) is Status.REGISTERED)
    assert d.agent.exit_code == {Status.REFUSED: EXIT_REFUSED, Status.LEAVING: 0}.get(status(d))


ABSENT = [(one, event) for one in Status for event in SessionEvent if (one, event) not in MOVES]


@pytest.mark.parametrize(("before", "event"), ABSENT, ids=lambda item: item.value)
def test_each_other_event_is_impossible(before: Status, event: SessionEvent) -> None:
    session = dialogue(before).agent._session
    assert not session.may(event)
    with pytest.raises(IllegalMoveError, match=f"the session is {before.value}: no {event.value}"):
        session.move(event)
    assert session.status is before


FINAL = (Status.REFUSED, Status.LEAVING)
# The guard withdraws only when it is asked.
UNTIMELY = [(one, event) for one, event in ABSENT if event is not SessionEvent.WITHDRAW or one in FINAL]


@pytest.mark.parametrize(("before", "event"), UNTIMELY, ids=lambda item: item.value)
def test_event_at_the_wrong_time_changes_nothing(before: Status, event: SessionEvent) -> None:
    d = dialogue(before)
    cause(d, event)
    assert status(d) is before
    assert not any(isinstance(frame, Register) for frame in d.sent())
    assert not any(isinstance(message, Session) for message in d.agent.to_guard)


def test_answer_to_a_register_of_the_session_before_opens_none() -> None:
    """It is read in the turn in which the guard says which runs had not started, before the next register."""
    d = dialogue(Status.WITHDRAWING)
    d.guard(WITHDRAWN)
    d.hear(registered("s0"))
    assert status(d) is Status.UNREGISTERED
    d.tick()
    assert status(d) is Status.REGISTERING


@pytest.mark.parametrize("end", FINAL, ids=lambda item: item.value)
def test_agent_that_ends_starts_nothing_more(end: Status) -> None:
    d = dialogue(Status.REGISTERED)
    cause(d, SessionEvent.REFUSE if end is Status.REFUSED else SessionEvent.LEAVE)
    d.sent()
    d.agent.to_guard.clear()
    d.hear(
        registered("s2"), Dispatch(s="s1", ep=1, n=1, runs=(order(1),)), Dispatch(s="s2", ep=1, n=1, runs=(order(2),))
    )
    d.says()
    d.orders()


def silent_at_ms(d: Dialogue) -> int | None:
    return d.agent.silent_at_ms


def test_silence_begins_when_the_answer_to_a_heartbeat_is_late() -> None:
    d = dialogue(Status.REGISTERED)
    assert silent_at_ms(d) is None
    d.wait(HEARTBEAT_MS)
    (beat,) = [frame for frame in d.sent() if isinstance(frame, Heartbeat)]
    sent_ms = d.now.mono_ms
    assert silent_at_ms(d) == sent_ms + TIMEOUT_MS // SILENT_PARTS
    # A later heartbeat does not put it off.
    d.wait(HEARTBEAT_MS)
    assert silent_at_ms(d) == sent_ms + TIMEOUT_MS // SILENT_PARTS
    assert d.agent.registered
    d.hear(HeartbeatAck(s="s1", ep=1, seq=beat.seq + 1))
    assert silent_at_ms(d) is None
    d.wait(HEARTBEAT_MS)
    d.agent.on_disconnected(d.now)
    assert silent_at_ms(d) is None
