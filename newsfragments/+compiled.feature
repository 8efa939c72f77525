The way of an object can be compiled: ``DCXTWISTED_COMPILED=1 pip install .``.
