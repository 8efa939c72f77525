``--workers N`` has several processes serve: a supervisor hands each connection to the worker that has fewest, counts for all of them, starts again what dies, and reloads and stops them together.
