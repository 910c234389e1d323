"""The deployment server: the policy host of the evaluation behind HTTP and WebSocket. See docs/serving.md.

Rooms: settings (what it can be told), engine (the host, from an event loop), sessions (who holds which memory), guard
(who gets in, and how much), frames (pictures from strangers), metrics, and the protocols: own, legacy, sockets.
"""
