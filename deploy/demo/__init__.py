"""`make demo`: a small cluster in network namespaces, shown step by step with real requests.

`steps` is what is shown, `stage` the cluster it happens on, `screen` how it is printed, `guide` what to try when it
stays up.
"""
