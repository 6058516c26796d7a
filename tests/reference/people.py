"""Persons, the plain way: the accepted links as a list, and a person is whatever they lead to.

`proposed` says what rules.py must say: the entries of the log as (call, a, b, refused), and the code of the refusal.
"""

from __future__ import annotations

Entry = tuple[str, str, str, str]


class People:
    def __init__(self, illegal: set[str], ids_max: int = 500, evidence: int = 2) -> None:
        self.illegal, self.ids_max, self.evidence = illegal, ids_max, evidence
        self.order = 1
        self.ids: list[str] = []  # in the order in which they entered the log
        self.users: list[str] = []  # in the order in which they became known
        self.links: list[tuple[int, str, str]] = []  # accepted, and not taken out since
        self.apart: set[frozenset[str]] = set()
        self.listed: set[tuple[frozenset[str], str]] = set()

    def ids_of(self, one: str) -> list[str]:
        found = [one]
        for each in found:
            found += {b if a == each else a for _, a, b in self.links if each in (a, b)} - {*found}
        return [i for i in self.ids if i in found] or [one]

    def links_of(self, one: str) -> list[tuple[int, str, str]]:
        return [link for link in self.links if link[1] in self.ids_of(one)]

    def person(self, one: str) -> str:
        mine = self.ids_of(one)
        return next((i for i in self.users if i in mine), mine[0])

    def owns_user(self, one: str) -> bool:
        return any(i in self.users for i in self.ids_of(one))

    def are_apart(self, a: str, b: str) -> bool:
        return any(frozenset({i, j}) in self.apart for i in self.ids_of(a) for j in self.ids_of(b))

    def proposed(self, call: str, a: str, b: str, secret: bool, b_user: bool) -> tuple[list[Entry], str]:
        log: list[Entry] = []
        code = self.judged(call, a, b, secret, b_user, log)
        if code and a and b and call not in ("user", "unlink") and (frozenset({a, b}), code) not in self.listed:
            self.listed.add((frozenset({a, b}), code))
            log.append((call, a, b, code))
        self.order += len(log)
        return log, code

    def judged(self, call: str, a: str, b: str, secret: bool, b_user: bool, log: list[Entry]) -> str:
        if call == "unlink":
            return self.unlinked(a, b, log)
        user = a or b if call == "user" or not a else b
        proves = call in ("identify", "event", "user") or (call == "alias" and b_user)
        if user and proves and user not in self.illegal and user not in self.users:
            self.enter(user)
            self.users.append(user)
            log.append(("user", user, "", ""))
        if call == "user" or not a:
            return "illegal_id" if user in self.illegal else ""
        if not b:
            return ""
        one = b in self.ids_of(a)
        if a in self.illegal or b in self.illegal:
            return "illegal_id"
        if a == b:
            return "" if call == "event" else "self_link"
        if one and (call == "event" or any({a, b} == {i, j} for _, i, j in self.links)):
            return ""
        mine = self.ids_of(a)
        if one and len(self.links_of(a)) - (len(mine) - 1) >= self.evidence * len(mine):
            return ""
        if not one:
            if self.are_apart(a, b) and call != "merge":
                return "unlinked_by_hand"
            may = call == "merge" or (call == "alias" and secret)
            if self.owns_user(a) and self.owns_user(b) and not may:
                return "both_identified"
            if len(self.ids_of(a)) + len(self.ids_of(b)) > self.ids_max:
                return "too_many_ids"
            if call == "merge":
                self.apart -= {frozenset({i, j}) for i in self.ids_of(a) for j in self.ids_of(b)}
        self.enter(a)
        self.enter(b)
        self.links.append((self.order + len(log), a, b))
        log.append((call, a, b, ""))
        return ""

    def enter(self, one: str) -> None:
        if one not in self.ids:
            self.ids.append(one)

    def unlinked(self, a: str, b: str, log: list[Entry]) -> str:
        mine = self.ids_of(a)
        if a == b:
            return "self_link"
        if (b not in mine) if b else len(mine) == 1:
            return "not_linked"
        theirs = self.links_of(a)
        self.links = [link for link in self.links if link not in theirs]
        self.apart |= {frozenset({a, other}) for other in mine if other != a and b in ("", other)}
        for link in theirs:
            _, i, j = link
            taken = {i, j} == {a, b} if b else a in (i, j)
            if not taken and (j in self.ids_of(i) or not self.are_apart(i, j)):
                self.links.append(link)
        self.links.sort()
        log.append(("unlink", a, b, ""))
        return ""
