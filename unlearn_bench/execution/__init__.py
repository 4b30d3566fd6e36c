"""From a plan to results: which run comes when, who executes it, and who hears of it."""
