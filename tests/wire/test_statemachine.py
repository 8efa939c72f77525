"""
The state table, held against the one pynetdicom has.
"""

from __future__ import annotations

from pynetdicom import fsm
from twisted.trial.unittest import SynchronousTestCase

from dcxtwisted.wire.statemachine import TRANSITIONS, Action, Event, State


def nextStates(action: Action) -> tuple[str, ...]:
    """The names of the states an action leads to: as requestor and as acceptor, one where they are the same."""
    asRequestor, asAcceptor = (action.nextState(isRequestor).value for isRequestor in (True, False))
    return (asRequestor,) if asRequestor == asAcceptor else (asRequestor, asAcceptor)


class TableTests(SynchronousTestCase):
    """PS3.8 table 9-10, cell for cell."""

    def test_size(self) -> None:
        self.assertEqual((len(Event), len(State), len(TRANSITIONS)), (19, 13, 123))

    def test_cells(self) -> None:
        """All 247 cells, the empty ones too, are those of pynetdicom; no difference is known."""
        for event in Event:
            for state in State:
                action = TRANSITIONS.get((event, state))
                name = None if action is None else action.standardName
                self.assertEqual(name, fsm.TRANSITION_TABLE.get((event.value, state.value)), f"{event} in {state}")

    def test_nextStates(self) -> None:
        """The states that follow are those of pynetdicom; AE-6 alone differs, see L{Action}."""
        self.assertEqual({action.standardName for action in Action}, set(fsm.ACTIONS))
        for action in Action:
            states = fsm.ACTIONS[action.standardName][2]
            expected = (states,) if isinstance(states, str) else states
            if action is Action.AE_6:
                self.assertEqual(expected, ("Sta3", "Sta13"))
                expected = ("Sta3",)
            self.assertEqual(nextStates(action), expected, action.standardName)

    def test_everyActionIsUsed(self) -> None:
        self.assertEqual(set(TRANSITIONS.values()), set(Action))

    def test_collision(self) -> None:
        """Only a release collision goes on differently for the two roles."""
        self.assertEqual([action for action in Action if len(nextStates(action)) == 2], [Action.AR_8])
        self.assertIs(Action.AR_8.nextState(True), State.COLLISION_REQUESTOR_AWAITING_RESPONSE)
        self.assertIs(Action.AR_8.nextState(False), State.COLLISION_ACCEPTOR_AWAITING_RP)
