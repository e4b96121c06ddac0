"""WHERE work runs: the contract with a worker, and the backends that reach one."""
