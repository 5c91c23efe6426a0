"""What a guest leaves with its controller: no more memory than the limits say, however it is cut into pieces.

Memory is counted by tracemalloc, in bytes that Python's own objects take.
"""

import pickle
import tracemalloc

import proxybox

TURNS = "import os\nfor n in range(40000): os.write(1, b'a'); os.write(2, b'b')"


def test_output_by_turns(hostile):
    """Each byte is a piece of its own."""
    tracemalloc.start()
    try:
        result = hostile.run(TURNS, limits={"calls": None, "cpu_time": 30}, timeout=60)
        kept, _ = tracemalloc.get_traced_memory()
        assert kept < 4 << 20
    finally:
        tracemalloc.stop()
    assert len(pickle.dumps(result)) < 1 << 20, "as a pool's process gives it"
    assert result.stdout == "a" * 40000
    assert result.stderr == "b" * 40000
    pieces = result.output
    assert pieces[:-2] == (("stdout", "a"), ("stderr", "b")) * 32767
    assert pieces[-2:] == (("stdout", "a" * 7233), ("stderr", "b" * 7233))
