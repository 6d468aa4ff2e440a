"""A test runner of a page: cases in the order they are written, a count at the end."""

import sys
import time
import traceback

_cases = []


def case(function):
    """Registers a test; its docstring or its name is what the report says."""
    _cases.append(function)
    return function


class Skip(Exception):
    """The case cannot be asked here; the text says why. Neither passed nor failed."""


def run_cases():
    """Runs every case, prints the count and ends the process."""
    passed = failed = 0
    for function in _cases:
        name = f"{function.__module__}.{function.__name__}".removeprefix("__main__.")
        begun = time.monotonic()
        try:
            function()
        except Skip as reason:
            print(f"skip {name}: {reason}")
        except Exception as error:
            failed += 1
            print(f"FAIL {name}: {type(error).__name__}: {error}")
            traceback.print_exc()
        else:
            passed += 1
            print(f"ok   {name} ({time.monotonic() - begun:.1f} s)")
    sys.stderr.flush()
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


def equal(found, expected, what=""):
    """Fails with both sides."""
    if found != expected:
        raise AssertionError(f"{what or 'value'}: found {_cut(found)}, expected {_cut(expected)}")


def wait_until(what, probe, seconds=30.0, pause=0.02):
    """Asks until the answer is true, and returns it; fails at the deadline."""
    deadline = time.monotonic() + seconds
    while True:
        answer = probe()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what() if callable(what) else what}")
        time.sleep(pause)


def _cut(value):
    text = repr(value)
    return text if len(text) <= 1500 else f"{text[:1500]}… ({len(text)} characters)"
