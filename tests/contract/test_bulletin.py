"""A board tells every listener the whole story, however late it comes."""

from __future__ import annotations

import asyncio

from jupyterhub.runtime.bulletin import MAX_EVENTS, Board, Bulletin


async def listen(board: Board) -> list[dict]:
    return [event async for event in board.listen()]


async def test_a_late_listener_hears_everything_from_the_beginning() -> None:
    board = Board()
    board.post({"n": 1})
    board.post({"n": 2})
    board.close()
    assert await listen(board) == [{"n": 1}, {"n": 2}]


async def test_listeners_hear_news_until_the_board_is_closed() -> None:
    board = Board()
    first, second = asyncio.ensure_future(listen(board)), asyncio.ensure_future(listen(board))
    await asyncio.sleep(0)
    for number in range(3):
        board.post({"n": number})
        await asyncio.sleep(0)
    board.close()
    assert await first == await second == [{"n": 0}, {"n": 1}, {"n": 2}]


async def test_a_chatty_start_keeps_the_newest_events() -> None:
    board = Board()
    for number in range(MAX_EVENTS + 10):
        board.post({"n": number})
    board.close()
    heard = await listen(board)
    assert len(heard) == MAX_EVENTS
    assert heard[-1] == {"n": MAX_EVENTS + 9}


async def test_a_new_start_closes_the_board_of_the_last_one() -> None:
    bulletin = Bulletin()
    old = bulletin.open(1)
    waiting = asyncio.ensure_future(listen(old))
    await asyncio.sleep(0)
    new = bulletin.open(1)
    assert await waiting == []
    assert bulletin.board(1) is new
