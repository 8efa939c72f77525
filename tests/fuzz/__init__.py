"""
What a peer can send, made by a coverage-guided fuzzer: a module for each target, with a C{check} for one input.

C{python -m tests.fuzz} runs them, README.rst says how. No test of trial's is here: C{tests.test_fuzz} gives the same
checks the seeds and what was found, and needs no fuzzer.
"""
