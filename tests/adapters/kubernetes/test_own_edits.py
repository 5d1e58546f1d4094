"""Own edits are known as such however late the watch tells them; somebody else's never are."""

from __future__ import annotations

from storage_operator.adapters.kubernetes.own_edits import OwnEdits

AT = ("team", "login")


def test_writes_that_are_told_late_are_ours() -> None:
    """All were sent before the first was told."""
    own = OwnEdits()
    for content in (b"one", b"two", b"three"):
        own.write(AT, content)
    assert [own.seen(AT, content) for content in (b"one", b"two", b"three")] == [False, False, False]
    assert own.seen(AT, b"two"), "going back to what was there is somebody else's edit"


def test_an_edit_between_two_of_ours_is_somebody_elses() -> None:
    """It is noticed, and our own that follows it is not."""
    own = OwnEdits()
    own.write(AT, b"one")
    own.write(AT, b"two")
    assert not own.seen(AT, b"one")
    assert own.seen(AT, b"edited")
    assert not own.seen(AT, b"two")
    assert own.seen(AT, b"edited")


def test_what_is_seen_first_is_learned() -> None:
    """The first list of a new process finds what is there."""
    own = OwnEdits()
    assert not own.seen(AT, b"old")
    assert own.seen(AT, b"edited")


def test_a_refused_write_leaves_what_was_known() -> None:
    """The content that was there is still not an edit."""
    own = OwnEdits()
    own.write(AT, b"one")
    own.write(AT, b"two")
    own.failed(AT, b"two")
    assert not own.seen(AT, b"one")
    assert own.seen(AT, b"two")
    own.failed(("team", "other"), b"never sent")
    assert not own.knows(("team", "other"))


def test_a_refused_write_of_what_was_told_leaves_it_known() -> None:
    """The watch tells a content while the same is written once more: the refusal takes nothing away from what is there."""
    own = OwnEdits()
    own.write(AT, b"one")
    own.write(AT, b"one")
    assert not own.seen(AT, b"one")
    own.failed(AT, b"one")
    assert own.seen(AT, b"edited")
    own.delete(AT, "uid-1")
    own.write(AT, b"one")
    assert not own.seen(AT, b"one")
    own.failed(AT, b"one")
    assert own.seen(AT, b"edited"), "not what is seen first"


def test_late_news_of_what_we_deleted_are_ours() -> None:
    """Neither its contents nor its end are an edit, even when its successor is there already."""
    own = OwnEdits()
    own.write(AT, b"one")
    own.delete(AT, "uid-1")
    assert own.is_deleted("uid-1")
    assert not own.gone(AT, "uid-1")
    own.write(AT, b"two")
    own.delete(AT, "uid-2")
    own.write(AT, b"three")
    assert not own.gone(AT, "uid-2")
    assert own.knows(AT)
    assert own.gone(AT, "uid-3"), "the successor was deleted by somebody else"
    assert not own.gone(AT, "uid-3"), "once"


def test_a_list_settles_deletions_of_its_namespace() -> None:
    """A watch that begins behind them tells them no more."""
    own = OwnEdits()
    own.delete(AT, "uid-1")
    own.delete(("other", "login"), "uid-2")
    own.settle(own.deleted_in("team"))
    assert own.deleted_in(None) == ["uid-2"]
    own.kept("uid-2")
    assert own.deleted_in(None) == []


def test_without_a_watch_little_is_kept() -> None:
    """Contents and deletions are bounded."""
    own = OwnEdits()
    for turn in range(10_050):
        own.write(AT, b"%d" % turn)
        own.delete(("team", "other"), f"uid-{turn}")
    assert len(own.deleted_in(None)) == 10_000
    assert own.seen(AT, b"0"), "long forgotten"
