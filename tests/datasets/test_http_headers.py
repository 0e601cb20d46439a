"""Headers of a response identify the version of a file, and state how long to wait."""

import pytest
import requests

from neurosuper.datasets.http_headers import Version, retry_after

EARLY, LATE = "Mon, 01 Jan 2024 00:00:00 GMT", "Mon, 01 Jan 2024 00:00:07 GMT"


def response_with(**headers):
    response = requests.Response()
    response.status_code = 200
    response.headers.update({name.replace("_", "-"): value for name, value in headers.items()})
    return response


def version(**headers):
    return Version.of(response_with(**headers))


@pytest.mark.parametrize(
    ("headers", "exact", "condition"),
    [
        ({"ETag": '"a"'}, True, '"a"'),
        ({"ETag": 'W/"a"'}, False, None),
        ({"Last_Modified": EARLY, "Date": LATE}, True, EARLY),
        ({"Last_Modified": EARLY, "Date": EARLY}, False, None),  # it may change again within this second
        ({"Last_Modified": "yesterday", "Date": LATE}, False, None),
        ({"ETag": 'W/"a"', "Last_Modified": EARLY, "Date": LATE}, True, EARLY),
        ({}, False, None),
    ],
)
def test_only_a_strong_etag_or_a_date_in_the_past_identifies_bytes(headers, exact, condition):
    assert (version(**headers).exact, version(**headers).condition) == (exact, condition)


@pytest.mark.parametrize(
    ("later", "difference"),
    [
        ({"ETag": '"a"'}, ""),
        ({"ETag": 'W/"a"'}, ""),
        ({"ETag": '"b"'}, "another ETag"),
        ({"ETag": 'W/"b"'}, "another ETag"),
        ({"ETag": '"a"', "Content_Length": "6"}, "6 bytes instead of 5"),
        ({"Content_Length": "5"}, "neither the earlier ETag nor the earlier Last-Modified"),
    ],
)
def test_a_later_response_is_of_the_same_version_only_if_its_headers_agree(later, difference):
    assert version(ETag='"a"', Content_Length="5").difference(version(**later)) == difference


def test_dates_are_compared_where_there_are_no_tags():
    dated = version(Last_Modified=EARLY, Date=LATE)
    assert dated.difference(version(Last_Modified=EARLY)) == ""
    assert dated.difference(version(Last_Modified=LATE)) == "another Last-Modified"


def test_a_version_is_stored_and_read_back():
    stored = version(ETag='"a"', Content_Length="5").to_json()
    assert Version.from_json(stored) == version(ETag='"a"', Content_Length="5")
    for damaged in ({}, {"etag": 3}, {"length": "5", "exact": True}, {"etag": ["a"], "exact": True}):
        assert Version.from_json(damaged) == Version()


@pytest.mark.parametrize(
    ("asked", "wait"),
    [("60", 60), (LATE, 7), (EARLY, 0), ("soon", 0), ("-5", 0), ("9" * 400, float("inf"))],
)
def test_the_time_to_wait_is_read_by_the_clock_of_the_server(asked, wait):
    assert retry_after(response_with(Retry_After=asked, Date=EARLY)) == wait
