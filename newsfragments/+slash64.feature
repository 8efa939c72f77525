Limits per address count all addresses of an IPv6 /64 as one, link-local ones but for that: a host that has a whole /64 no longer evades them by changing its address.
