# SPDX-License-Identifier: GPL-2.0-or-later
"""scripts/check: what is to be run (plan.py), when (schedule.py), and what counts (tally.py)."""
