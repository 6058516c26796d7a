"""Which ids are one person, by docs/rules.md and nothing clever: a list of links, a set of pairs that must stay apart,
and everything else worked out from these anew each time it is asked for.

`judged` says what a proposal must come to: its entries in the log, (call, a, b, code), and the code it is refused with.
"""

from __future__ import annotations

Link = tuple[int, str, str]
Entry = tuple[str, str, str, str]


class Identity:
    def __init__(self, ids: list[str], illegal: set[str], ids_max: int, evidence: int) -> None:
        self.ids, self.illegal, self.ids_max, self.evidence = ids, illegal, ids_max, evidence
        self.order, self.links, self.users = 1, [], []  # type: int, list[Link], list[str]
        self.entered: list[str] = []  # in the order in which they came
        self.apart: set[frozenset[str]] = set()
        self.listed: set[tuple[frozenset[str], str]] = set()

    def people(self, links: list[Link] | None = None) -> dict[str, set[str]]:
        person = {one: {one} for one in self.ids}
        for _, a, b in self.links if links is None else links:
            if person[a] is not person[b]:
                both = person[a] | person[b]
                person.update(dict.fromkeys(both, both))
        return person

    def shown(self) -> dict[str, str]:
        """Whom each is named by."""
        person, named = self.people(), {}  # type: dict[str, set[str]], dict[str, str]
        for one in [*self.users, *self.entered, *self.ids]:
            if one not in named:
                named.update(dict.fromkeys(person[one], one))
        return named

    def person(self, one: str) -> set[str]:
        return self.people()[one]

    def kept_apart(self, some: set[str]) -> bool:
        return any(pair <= some for pair in self.apart)

    def judged(self, call: str, a: str, b: str, secret: bool, b_user: bool) -> tuple[list[Entry], str]:
        log: list[Entry] = []
        if call == "unlink":
            code = self.cannot_unlink(a, b)
            if not code:
                (self.links, _), parted = self.without(a, b), self.parted(a, b)
                self.apart |= parted
                log.append((call, a, b, ""))
        else:
            code = self.proposed(call, a, b, secret, b_user, log)
            if code and a and b and call != "user" and (frozenset({a, b}), code) not in self.listed:
                self.listed.add((frozenset({a, b}), code))
                log.append((call, a, b, code))
        self.order += len(log)
        return log, code

    def proposed(self, call: str, a: str, b: str, secret: bool, b_user: bool, log: list[Entry]) -> str:
        alone = call == "user" or not a
        proves = call in ("user", "identify", "event") or (call == "alias" and b_user)
        user = (a or b if alone else b) if proves else ""
        if user and user not in self.illegal and user not in self.users:
            log.append(("user", user, "", ""))
            self.users.append(user)
            self.entered += [user] if user not in self.entered else []
        if alone or not b:
            return "illegal_id" if alone and (a or b) in self.illegal else ""
        person = self.people()
        mine, theirs = person[a], person[b]
        owners = [bool(each & {*self.users}) for each in (mine, theirs)]
        if a in self.illegal or b in self.illegal:
            return "illegal_id"
        if a == b:
            return "self_link" if call != "event" else ""
        if b in mine:
            beside = sum(i in mine for _, i, _ in self.links) - len(mine) + 1
            said = any({i, j} == {a, b} for _, i, j in self.links)
            if call == "event" or said or beside >= self.evidence * len(mine):
                return ""
        elif call != "merge" and self.kept_apart(mine | theirs):
            return "unlinked_by_hand"
        elif all(owners) and call != "merge" and not (call == "alias" and secret):
            return "both_identified"
        elif len(mine) + len(theirs) > self.ids_max:
            return "too_many_ids"
        elif call == "merge":
            self.apart = {pair for pair in self.apart if not pair <= mine | theirs}
        self.links.append((self.order + len(log), a, b))
        self.entered += [one for one in (a, b) if one not in self.entered]
        log.append((call, a, b, ""))
        return ""

    def cannot_unlink(self, a: str, b: str) -> str:
        mine = self.person(a)
        return "self_link" if a == b else "not_linked" if (b not in mine if b else mine == {a}) else ""

    def parted(self, a: str, b: str) -> set[frozenset[str]]:
        return {frozenset({a, other}) for other in self.person(a) - {a} if b in ("", other)}

    def without(self, a: str, b: str) -> tuple[list[Link], list[int]]:
        """The links that hold once those of a and b, or all of a, are taken out; and the places of those left out."""
        mine, apart = self.person(a), self.apart | self.parted(a, b)
        kept: list[Link] = [link for link in self.links if link[1] not in mine]
        left_out = []
        for link in [link for link in self.links if link[1] in mine]:
            _, i, j = link
            if ({i, j} == {a, b}) if b else a in (i, j):
                continue
            joined = self.people([*kept, link])[i]
            if any(pair <= joined for pair in apart):
                left_out.append(link[0])
            else:
                kept.append(link)
        return sorted(kept), left_out
