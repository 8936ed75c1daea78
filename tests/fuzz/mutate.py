"""Seeded damage to bytes: what a copy error, a liar and a fool would do."""

import random

TOKENS = (
    *(b"\x00", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", b"\n"),
    *(
        b"\x1b[2J",
        b"null",
        b"-1",
        b"1e999",
        b"[[[[[[[[",
        b"{}",
        b'"',
        b"\xed\xa0\x80",
        b"9" * 400,
        b"PK\x03\x04",
    ),
    *(b"&a ", b"*a", b"!!bool ", b"1:59:59", b"<<: ", b"---\n", b"\t", b": "),
)


def damage(content: bytes, draw: random.Random) -> bytes:
    """1 to 6 changes: bytes, bits, cuts, copies, tokens, swaps."""
    bad = bytearray(content)
    for _ in range(draw.randint(1, 6)):
        if not bad:
            return bytes(bad)
        # Half of them near the ends, where headers and directories are.
        near = draw.random() < 0.5
        place = draw.randrange(min(len(bad), 400)) if near else draw.randrange(len(bad))
        if near and draw.random() < 0.5:
            place = len(bad) - 1 - place
        match draw.randrange(7):
            case 0:
                bad[place] = draw.randrange(256)
            case 1:
                bad[place] ^= 1 << draw.randrange(8)
            case 2:
                del bad[place : place + draw.randint(1, 40)]
            case 3:
                piece = bad[place : place + draw.randint(1, 60)]
                bad[place:place] = piece * draw.randint(1, 3)
            case 4:
                bad[place:place] = draw.choice(TOKENS)
            case 5:
                token = draw.choice(TOKENS)
                bad[place : place + len(token)] = token
            case 6 if draw.random() < 0.2:
                del bad[place:]
    return bytes(bad)


def odd_value(draw: random.Random) -> object:
    """A value for a key of a manifest that somebody else wrote."""
    values: list[object] = [
        *(None, True, -1, 0, 1, 2, 7, 64, 4096, 10**6, 10**15, 10**400, -(10**400), 0.5, 1e308, -0.0),
        *("", "a", "x" * 5000, "\x1b]0;t\x07", "a\nb", "\ud800", "../x", "box", "cxcywh", "uint8"),
        *([], {}, [[]], [1] * 3000, {"a": {"b": {}}}, {f"k{n}": n for n in range(500)}, [{"graph": "track"}]),
    ]
    return draw.choice(values)
