"""Our signer and our reader of event streams against botocore's, and against the writer of the test cloud."""

import string
import struct
import zlib
from datetime import UTC, datetime
from itertools import pairwise
from unittest import mock
from urllib.parse import quote

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import botocore.eventstream
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.errors import Unreachable
from isochrone.places.bedrock_frames import Frame, Frames
from isochrone.places.bedrock_sign import Credentials, sign
from isochrone.testing.clouds.bedrock_gate import Denied, Gate
from isochrone.testing.clouds.bedrock_wire import message

names = st.text(st.sampled_from(string.ascii_letters + ":-_"), min_size=1, max_size=60)
values = st.text(max_size=80)
messages = st.tuples(st.dictionaries(names, values, max_size=6), st.binary(max_size=400))


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in pairwise(edges)]


@given(st.lists(messages, max_size=5), st.lists(st.integers(0, 10_000), max_size=8))
def test_a_stream_reads_the_same_as_botocore_reads_it_however_it_is_cut(sent, places):
    data = b"".join(message(*one) for one in sent)
    ours, theirs = Frames(), botocore.eventstream.EventStreamBuffer()
    read = [frame for chunk in cut(data, places) for frame in ours.push(chunk)]
    theirs.add_data(data)
    assert [(frame.headers, frame.payload) for frame in read] == [(one.headers, one.payload) for one in theirs]
    assert [(frame.headers, frame.payload) for frame in read] == sent
    assert ours.num_held == 0


@given(messages, st.data())
def test_a_flipped_bit_is_never_read_as_a_message(one, data):
    good = message(*one)
    at = data.draw(st.integers(0, len(good) * 8 - 1))
    bad = bytearray(good)
    bad[at // 8] ^= 1 << at % 8
    frames = Frames()
    try:
        read = frames.push(bytes(bad) + good)
    except Unreachable:
        return
    assert read == [], "a length that grew waits for more bytes"


def typed_headers() -> bytes:
    """One header of each type that the protocol has."""
    fields = [(0, b""), (1, b""), (2, b"\x05"), (3, b"\x00\x05"), (4, bytes(4)), (5, bytes(8)), (6, b"\x00\x02ab"),
              (7, b"\x00\x02hi"), (8, bytes(8)), (9, bytes(16))]  # fmt: skip
    return b"".join(bytes([2]) + b"h%d" % kind + bytes([kind]) + value for kind, value in fields)


def framed(headers: bytes, payload: bytes) -> bytes:
    start = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    start += struct.pack(">I", zlib.crc32(start))
    whole = start + headers + payload
    return whole + struct.pack(">I", zlib.crc32(whole))


def test_headers_of_other_types_are_passed_over():
    assert Frames().push(framed(typed_headers(), b"x")) == [Frame({"h7": "hi"}, b"x")]


@pytest.mark.parametrize(
    "headers",
    [b"\x05ab", b"\x01a\x0b", b"\x01a\x07\x00\x09ab", b"\x01a\x07\x00\x01\xff", b"\x01a\x07\x00\x00" * 2],
    ids=["name cut", "unknown type", "value cut", "no UTF-8", "twice"],
)
def test_headers_that_cannot_be_read_are_an_error(headers):
    with pytest.raises(Unreachable, match="damaged"):
        Frames().push(framed(headers, b""))


def test_a_message_that_claims_too_much_is_refused_before_it_is_held():
    for total, num_headers in ((25 << 20, 0), (1 << 18, (128 << 10) + 1), (15, 0), (20, 9)):
        start = struct.pack(">II", total, num_headers)
        with pytest.raises(Unreachable, match="claims"):
            Frames().push(start + struct.pack(">I", zlib.crc32(start)))


segments = st.text(st.sampled_from(string.ascii_letters + string.digits + "-._~%:+ @ü/"), max_size=30)
header_values = st.text(st.sampled_from(string.ascii_letters + string.digits + " -;,/"), min_size=1, max_size=30)


@st.composite
def requests(draw):
    path = quote("/model/" + draw(segments) + "/converse", safe=draw(st.sampled_from(["/", "/-._~", ""])))
    pairs = draw(st.lists(st.tuples(st.sampled_from("abcé"), st.sampled_from(["", "1", "x y", "ü"])), max_size=3))
    query = "&".join(f"{quote(name)}={quote(value)}" for name, value in pairs)
    host = draw(st.sampled_from(["bedrock-runtime.eu-west-1.amazonaws.com", "127.0.0.1:8123", "h.test:443"]))
    url = f"https://{host}{path if path.startswith('/') else '/' + path}" + (f"?{query}" if query else "")
    header_names = st.sampled_from(["Content-Type", "X-Amz-Meta", "Accept", "User-Agent", "Expect"])
    headers = draw(st.dictionaries(header_names, header_values))
    return url, headers, draw(st.binary(max_size=60))


secrets_ = st.text(st.sampled_from(string.ascii_letters + string.digits + "/+"), min_size=1, max_size=40)


@given(requests(), secrets_, st.sampled_from(["", "session+token/="]), st.integers(0, 4_000_000_000))
def test_our_signature_is_botocores(asked, secret, token, at):
    url, headers, body = asked
    theirs = botocore.awsrequest.AWSRequest("POST", url, dict(headers), body)
    signer = botocore.auth.SigV4Auth(botocore.credentials.Credentials("AKID", secret, token or None), "bedrock", "eu-1")
    with mock.patch("botocore.auth.get_current_datetime", return_value=datetime.fromtimestamp(at, UTC)):
        signer.add_auth(theirs)
    added = sign("POST", url, headers, body, Credentials("AKID", secret, token), region="eu-1", at=at)
    assert {name.lower(): value for name, value in (headers | added).items()} == {
        name.lower(): value for name, value in theirs.headers.items()
    }


def asked_of_gate(gate: Gate, credentials: Credentials, at: float, **changes: str) -> None:
    url, headers, body = "http://h:1/model/a%3A0/converse", {"Content-Type": "application/json"}, b"{}"
    added = sign("POST", url, headers, body, credentials, region=changes.get("region", "eu-1"), at=at)
    sent = {"Host": changes.get("host", "h:1"), **headers, **added}
    gate.check("POST", changes.get("path", "/model/a%3A0/converse"), sent, changes.get("body", "{}").encode())


def test_the_gate_lets_in_what_is_signed_and_names_what_is_not():
    now = 1_800_000_000.0
    gate = Gate("eu-1", lambda: now)
    good = Credentials(gate.lasting.access_key, gate.lasting.secret_key)
    asked_of_gate(gate, good, now)
    refused = [
        ("InvalidSignature", good, now, {"path": "/model/b%3A0/converse"}),
        ("InvalidSignature", good, now, {"path": "/model/a:0/converse"}),
        ("InvalidSignature", good, now, {"body": "{ }"}),
        ("InvalidSignature", good, now, {"host": "other"}),
        ("InvalidSignature", good, now, {"region": "us-1"}),
        ("InvalidSignature", good, now - 301, {}),
        ("InvalidSignature", good, now + 301, {}),
        ("InvalidSignature", Credentials(good.access_key, "wrong"), now, {}),
        ("UnrecognizedClient", Credentials("AKIDOTHER", "wrong"), now, {}),
        ("UnrecognizedClient", Credentials(good.access_key, good.secret_key, "token"), now, {}),
    ]
    for kind, credentials, at, changes in refused:
        with pytest.raises(Denied) as denied:
            asked_of_gate(gate, credentials, at, **changes)
        assert denied.value.kind == kind + "Exception", changes


def test_the_gate_knows_when_a_session_is_over():
    now = 1_800_000_000.0
    gate = Gate("eu-1", lambda: now)
    session = gate.issue(60.0)
    credentials = Credentials(session.access_key, session.secret_key, session.token)
    asked_of_gate(gate, credentials, now)
    now += 60.0
    with pytest.raises(Denied) as denied:
        asked_of_gate(gate, credentials, now)
    assert denied.value.kind == "ExpiredTokenException"
