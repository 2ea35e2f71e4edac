"""Capital letters and digits as bitmaps of 5 x 7 cells: our own, since fonts differ by version."""

from __future__ import annotations

import functools
from collections.abc import Mapping

WIDTH, HEIGHT = 5, 7  # cells

_ROWS = """
A  ### |#   #|#   #|#####|#   #|#   #|#   #
B #### |#   #|#   #|#### |#   #|#   #|####
C  ### |#   #|#    |#    |#    |#   #| ###
D #### |#   #|#   #|#   #|#   #|#   #|####
E #####|#    |#    |#### |#    |#    |#####
F #####|#    |#    |#### |#    |#    |#
G  ### |#   #|#    |#  ##|#   #|#   #| ####
H #   #|#   #|#   #|#####|#   #|#   #|#   #
I  ### |  #  |  #  |  #  |  #  |  #  | ###
J   ###|   # |   # |   # |   # |#  # | ##
K #   #|#  # |# #  |##   |# #  |#  # |#   #
L #    |#    |#    |#    |#    |#    |#####
M #   #|## ##|# # #|# # #|#   #|#   #|#   #
N #   #|##  #|##  #|# # #|#  ##|#  ##|#   #
O  ### |#   #|#   #|#   #|#   #|#   #| ###
P #### |#   #|#   #|#### |#    |#    |#
Q  ### |#   #|#   #|#   #|# # #|#  # | ## #
R #### |#   #|#   #|#### |# #  |#  # |#   #
S  ####|#    |#    | ### |    #|    #|####
T #####|  #  |  #  |  #  |  #  |  #  |  #
U #   #|#   #|#   #|#   #|#   #|#   #| ###
V #   #|#   #|#   #|#   #|#   #| # # |  #
W #   #|#   #|#   #|# # #|# # #|## ##|#   #
X #   #|#   #| # # |  #  | # # |#   #|#   #
Y #   #|#   #| # # |  #  |  #  |  #  |  #
Z #####|    #|   # |  #  | #   |#    |#####
0  ### |#   #|#  ##|# # #|##  #|#   #| ###
1   #  | ##  |  #  |  #  |  #  |  #  | ###
2  ### |#   #|    #|   # |  #  | #   |#####
3 #####|   # |  #  |   # |    #|#   #| ###
4    # |  ## | # # |#  # |#####|   # |   #
5 #####|#    |#### |    #|    #|#   #| ###
6   ## | #   |#    |#### |#   #|#   #| ###
7 #####|    #|   # |   # |  #  |  #  |  #
8  ### |#   #|#   #| ### |#   #|#   #| ###
9  ### |#   #|#   #| ####|    #|   # | ##
"""


def _read(rows: str) -> dict[str, tuple[str, ...]]:
    lines = rows.strip("\n").split("\n")
    return {line[0]: tuple(row.ljust(WIDTH) for row in line[2:].split("|")) for line in lines}


GLYPHS: Mapping[str, tuple[str, ...]] = _read(_ROWS)
CHARACTERS = "".join(GLYPHS)


@functools.cache
def runs(character: str) -> tuple[tuple[int, int, int], ...]:
    """The inked cells of a character as (row, first cell, first cell after) runs, from the top left.

    Raises KeyError for a character without a bitmap.
    """
    found = []
    for row, cells in enumerate(GLYPHS[character]):
        start = None
        for cell in range(WIDTH + 1):
            inked = cell < WIDTH and cells[cell] == "#"
            if inked and start is None:
                start = cell
            elif not inked and start is not None:
                found.append((row, start, cell))
                start = None
    return tuple(found)
