"""Persons, the plain way: each id's person is a list that its ids share; every rule is read off the list.

`proposed` says what rules.py must say: the entries of the log as (call, a, b, refused), and the code of the refusal.
"""

from __future__ import annotations


class People:
    def __init__(self, illegal: set[str], ids_max: int = 500) -> None:
        self.illegal, self.ids_max = illegal, ids_max
        self.ids: dict[str, list[str]] = {}  # id → its person's ids; in the order in which ids entered the log
        self.users: list[str] = []  # in the order in which they became known
        self.listed: set[tuple[frozenset[str], str]] = set()

    def ids_of(self, one: str) -> list[str]:
        return self.ids.get(one, [one])

    def person(self, one: str) -> str:
        mine = self.ids_of(one)
        return next((i for order in (self.users, self.ids) for i in order if i in mine), one)

    def owns_user(self, one: str) -> bool:
        return any(i in self.users for i in self.ids_of(one))

    def proposed(self, call: str, a: str, b: str, secret: bool, b_user: bool) -> tuple[list[tuple[str, ...]], str]:
        log: list[tuple[str, ...]] = []
        user = a or b if call == "user" or not a else b
        proves = call in ("identify", "event", "user") or (call == "alias" and b_user)
        if user and proves and user not in self.illegal and user not in self.users:
            self.ids.setdefault(user, [user])
            self.users.append(user)
            log.append(("user", user, "", ""))
        if call == "user" or not a:
            return log, "illegal_id" if user in self.illegal else ""
        if not b:
            return log, ""
        if code := self.refused(call, a, b, secret):
            if (pair := (frozenset({a, b}), code)) not in self.listed:
                self.listed.add(pair)
                log.append((call, a, b, code))
            return log, code
        if b not in self.ids_of(a):
            for one in (a, b):
                self.ids.setdefault(one, [one])
            joined = self.ids[a] + self.ids[b]
            self.ids |= dict.fromkeys(joined, joined)
            log.append((call, a, b, ""))
        return log, ""

    def refused(self, call: str, a: str, b: str, secret: bool) -> str:
        if a in self.illegal or b in self.illegal:
            return "illegal_id"
        if a == b:
            return "" if call == "event" else "self_link"
        if b in self.ids_of(a):
            return ""
        if self.owns_user(a) and self.owns_user(b) and not (call == "merge" or (call == "alias" and secret)):
            return "both_identified"
        return "too_many_ids" if len(self.ids_of(a)) + len(self.ids_of(b)) > self.ids_max else ""
