"""The commands `sessions`, `revoke` and `logout-all`."""

import uuid
from datetime import timedelta

from sqlalchemy import update

from fastapi_users_knox import KnoxSettings
from tests.cli.place import Place
from tests.models import KnoxToken

HOUR = timedelta(hours=1)


async def test_sessions_are_listed(place: Place) -> None:
    """`sessions` lists the live sessions of a user, newest first, and no session of another user."""
    jane, other = await place.create_user(), await place.create_user()
    await place.log_in(jane, ago=timedelta(days=1))
    first = await place.log_in(jane, ago=HOUR, name="laptop")
    second = await place.log_in(jane, scopes={"write", "read"}, token_ttl=None)
    await place.log_in(other)

    document = await place.ask("sessions", jane.id)

    assert (document["user_id"], document["audience"]) == (str(jane.id), "")
    [newest, oldest] = document["sessions"]
    assert [newest["id"], oldest["id"]] == [str(second.record.id), str(first.record.id)]
    assert (newest["expires_at"], newest["scopes"], newest["name"]) == (None, ["read", "write"], None)
    assert (oldest["scopes"], oldest["name"], oldest["last_used_at"]) == (None, "laptop", None)
    assert oldest["created_at"] == first.record.created_at.isoformat(timespec="milliseconds")


async def test_sessions_are_shown_in_a_table(sqlite: Place) -> None:
    """Without `--json`, `sessions` prints a table, in which the times are in UTC."""
    jane = await sqlite.create_user()
    token = await sqlite.log_in(jane, name="laptop", scopes={"write", "read"})

    shown = (await sqlite.run("sessions", jane.id)).stdout

    assert f"1 live sessions of user {jane.id}" in shown
    for text in (str(token.record.id), f"{token.record.created_at:%Y-%m-%d %H:%M}", "never", "laptop", "read write"):
        assert text in shown


async def test_a_client_cannot_control_the_terminal(sqlite: Place) -> None:
    """Control characters and markup in the name of a session are printed as plain text."""
    jane = await sqlite.create_user()
    await sqlite.log_in(jane)
    async with sqlite.open_app() as app:
        await app.session.execute(update(KnoxToken).values(name="\x1b]0;owned\x07[red]\u202e"))
        await app.session.commit()

    shown = (await sqlite.run("sessions", jane.id)).stdout

    assert "\N{REPLACEMENT CHARACTER}]0;owned\N{REPLACEMENT CHARACTER}[red]\N{REPLACEMENT CHARACTER}" in shown
    assert not {"\x1b", "\x07", "\u202e"} & {*shown}


async def test_users_have_email_addresses(sql: Place) -> None:
    """Over SQL, USER may be an e-mail address, in upper or lower case."""
    jane = await sql.create_user()
    await sql.log_in(jane)

    document = await sql.ask("sessions", jane.email.upper())

    assert document["user_id"] == str(jane.id)
    assert len(document["sessions"]) == 1


async def test_a_user_without_sessions_is_known(place: Place) -> None:
    """A user without sessions has an empty list, and a logout-all revokes nothing."""
    jane = await place.create_user()

    assert (await place.ask("sessions", jane.id))["sessions"] == []
    assert (await place.ask("logout-all", jane.id))["revoked"] == 0


async def test_unknown_users_are_not_found(sql: Place) -> None:
    """An id or an address that no user has ends the program with 1."""
    for user in (uuid.uuid4(), "nobody@example.org"):
        for command in ("sessions", "logout-all"):
            document = await sql.ask(command, user, code=1)
            assert document == {"error": f"there is no user {user}"}


async def test_one_session_is_revoked(place: Place) -> None:
    """`revoke` ends one session of a user, once."""
    jane = await place.create_user()
    laptop, phone = await place.log_in(jane), await place.log_in(jane)

    done = await place.ask("revoke", jane.id, laptop.record.id)
    again = await place.ask("revoke", jane.id, laptop.record.id, code=1)

    assert done == {"user_id": str(jane.id), "id": str(laptop.record.id), "revoked": True}
    assert again == {**done, "revoked": False}
    assert [await place.accepts(token) for token in (laptop, phone)] == [False, True]


async def test_the_session_of_another_user_stays(place: Place) -> None:
    """`revoke` does not end a session of another user."""
    jane, other = await place.create_user(), await place.create_user()
    token = await place.log_in(other)

    shown = (await place.run("revoke", jane.id, token.record.id, code=1)).stdout

    assert shown == f"Session {token.record.id} of user {jane.id} is not live, or not known.\n"
    assert await place.accepts(token)


async def test_all_sessions_are_revoked(place: Place) -> None:
    """`logout-all` ends the sessions of a user in every audience, and none of another user."""
    jane, other = await place.create_user(), await place.create_user()
    web = KnoxSettings(audience="web")
    mine = [await place.log_in(jane), await place.log_in(jane, scopes={"read"})]
    elsewhere, others = await place.log_in(jane, settings=web), await place.log_in(other)

    shown = (await place.run("logout-all", jane.id)).stdout

    assert shown == f"3 sessions of user {jane.id} are revoked.\n"
    assert [await place.accepts(token) for token in (*mine, others)] == [False, False, True]
    assert not await place.accepts(elsewhere, web)


async def test_api_tokens_may_stay(place: Place) -> None:
    """`logout-all --keep-api-tokens` keeps the tokens with scopes."""
    jane = await place.create_user()
    session, token = await place.log_in(jane), await place.log_in(jane, scopes={"read"})

    document = await place.ask("logout-all", jane.id, "--keep-api-tokens")

    assert document == {"user_id": str(jane.id), "revoked": 1}
    assert [await place.accepts(each) for each in (session, token)] == [False, True]


async def test_sessions_of_one_audience_are_listed(sqlite: Place) -> None:
    """`--audience` chooses the audience of the sessions."""
    jane = await sqlite.create_user()
    await sqlite.log_in(jane)
    token = await sqlite.log_in(jane, settings=KnoxSettings(audience="web"))

    shown = await sqlite.run_with([*sqlite.options, "--audience", "web"], "sessions", jane.id)

    assert "1 live sessions" in shown.stdout
    assert str(token.record.id) in shown.stdout
