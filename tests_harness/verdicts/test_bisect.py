"""The search for a commit: its steps, and their error rates."""

from __future__ import annotations

import pytest
from enginegate.verdicts.bisect import LOOKS, WRONG, Answer, race_of, search, steps_of
from hypothesis import given
from hypothesis import strategies as st


@given(st.integers(1, 300), st.data())
def test_the_first_bad_commit_is_found_in_as_many_steps_as_are_planned(commits, data):
    first = data.draw(st.integers(0, commits - 1))
    found = search(commits, lambda place: Answer.BAD if place >= first else Answer.GOOD)
    assert found.first == first
    assert len(found.asked) <= steps_of(commits)


@given(st.integers(2, 60), st.data())
def test_skipped_commits_leave_open_what_they_hide_and_nothing_else(commits, data):
    first = data.draw(st.integers(0, commits - 1))
    skipped = data.draw(st.sets(st.integers(0, commits - 2)))

    def ask(place: int) -> Answer:
        assert place != commits - 1
        return Answer.SKIP if place in skipped else Answer.BAD if place >= first else Answer.GOOD

    found = search(commits, ask)
    assert first in found.among
    assert len(found.asked) == len({place for place, _ in found.asked})
    if not skipped:
        assert found.among == (first,)
    assert set(found.among[:-1]) <= skipped
    assert found.first == (first if found.among == (first,) else None)


def test_the_steps_share_the_error_of_the_search():
    assert [steps_of(count) for count in (1, 2, 3, 64, 65)] == [1, 1, 2, 6, 7]
    assert steps_of(64, ends=True) == 7
    race = race_of(0.05, 6)
    assert (race.alpha, race.beta) == (pytest.approx(0.0083, abs=1e-4), pytest.approx(0.0083, abs=1e-4))
    assert (race.margin, race.tolerated) == (0.0125, pytest.approx(0.0375))
    assert 6 * race.alpha == pytest.approx(WRONG)
    assert LOOKS[-1] > 16


def test_answers_are_exit_codes_of_git_bisect_run():
    assert [answer.value for answer in Answer] == [0, 1, 125]
