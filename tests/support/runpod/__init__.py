"""RunPod on this machine: the provider's queue with every fault it is known for, and real SDK workers behind it.

What it does to jobs on purpose is a method or attribute of `Endpoint`, what it does to one request a `Fault`. Where
RunPod's documentation is silent (whether a ttl stops the worker, what a crash does to its job) it takes the harsher
reading or lets the test choose. A change of RunPod's shows only when this is updated.
"""
