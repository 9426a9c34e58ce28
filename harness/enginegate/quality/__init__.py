"""Quality measurements: small functions that ask one engine the items of a data set and keep a score for each item.

Every ``evaluate_*`` function returns a QualityEntry with the numbers of each item, by item hash, so that two engines
that answered the same items can be compared in pairs. Nothing here judges; that is the gates' work.
"""
