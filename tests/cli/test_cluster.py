"""The commands on a Redis cluster."""

from tests.cli.place import Place


async def test_tokens_in_a_cluster_are_counted(cluster: Place) -> None:
    """`stats` and `purge` find the tokens on all nodes of a cluster."""
    tokens = [await cluster.log_in(await cluster.create_user()) for _ in range(20)]

    counted, purged = await cluster.ask("stats"), await cluster.ask("purge")

    assert (counted["live"], counted["users"], purged["deleted"], purged["left"]) == (20, 20, 0, 0)
    assert all([await cluster.accepts(token) for token in tokens])


async def test_everyone_in_a_cluster_is_logged_out(cluster: Place) -> None:
    """`logout-everyone` finds the users on all nodes of a cluster."""
    tokens = [await cluster.log_in(await cluster.create_user()) for _ in range(20)]

    document = await cluster.ask("logout-everyone", "--yes")

    assert document == {"users": 20, "revoked": 20}
    assert not any([await cluster.accepts(token) for token in tokens])


async def test_all_masters_are_checked(cluster: Place) -> None:
    """`check` asks all masters of a cluster."""
    document = await cluster.ask("check", code=1)

    names = [check["check"] for check in document["checks"] if check["check"].endswith(": role")]
    assert (len(names), len({*names})) == (3, 3)
    assert all("127.0.0.1:" in name for name in names)
