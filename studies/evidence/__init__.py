"""The headline claims of every system, what was measured of them here, and verdicts that follow by rule.

    python -m studies.evidence            # writes docs/evidence.md from the kept results

One file a system has its claims; `rules.py` what several judge by; `page.py` writes the page.
"""
