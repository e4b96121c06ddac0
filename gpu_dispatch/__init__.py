"""Runs tasks on GPU workers: the contract with a worker, and the backends that reach one."""
