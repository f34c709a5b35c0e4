"""How shares are written: on the page of an audit, on the terminal and in what it recommends."""

import math


def percent(share: float) -> str:
    """A share in percent, of three digits, or two below 1 %: 90.2 %, 6.36 %, 0.31 %, 0.0023 %."""
    value = 100 * share
    if value <= 0:
        return "0 %"
    rounded = float(f"{value:.{2 if value >= 1 else 1}e}")  # 0.00999 is 0.010
    if rounded >= 100:
        return f"{rounded:.0f} %"
    digits = (2 if rounded >= 1 else 1) - math.floor(math.log10(rounded))
    return f"{rounded:.{digits}f} %"
