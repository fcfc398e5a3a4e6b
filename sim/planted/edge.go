package main

// The bugs at the edges: the cloud's answers, the refresh, brokers and their cache, policy,
// the authority.
var edgeBugs = []mutation{
	{
		name: "forbidden-is-no", breaks: "an AccessDenied about the core revokes nobody",
		file: "cloudsync/answer.go", old: "(status == http.StatusBadRequest || status == http.StatusNotFound)", new: "true || status == http.StatusForbidden",
		tests: "./cloudsync",
	}, {
		name: "redirect-is-yes", breaks: "only a well-formed answer of the service is a yes", security: true,
		file: "cloudsync/answer.go", old: "	if fields == nil {\n		return notService(\"HTTP %d without", new: "	if fields == nil && status == 0 {\n		return notService(\"HTTP %d without",
		tests: "./cloudsync",
	}, {
		name: "answer-for-another", breaks: "an answer about another certificate is no answer", security: true,
		file: "cloudsync/answer.go", old: "		if got != nil && *got != want {", new: "		if got != nil && *got != want && want == \"\" {",
		tests: "./cloudsync",
	}, {
		name: "half-listing-removes", breaks: "nothing is removed by a listing that is not complete",
		file: "actors/refresh/sync.go", old: "	if !c.List.Complete {", new: "	if !c.List.Complete && len(c.List.Things) == 0 {",
		tests: "./actors/refresh ./actors",
	}, {
		name: "one-listing-removes", breaks: "with the guard nothing is removed by one listing alone",
		file: "actors/refresh/sync.go", old: "	if c.Guard && len(plan.Forget) > 0 {", new: "	if c.Guard && len(plan.Forget) > 50 {",
		tests: "./actors/refresh ./actors",
	}, {
		name: "guard-other-lists", breaks: "what only one of two listings lacks stays",
		file: "actors/refresh/sync.go", old: "		plan = confirmed(plan, f, s, c, nowMs)\n", new: "",
		tests: "./actors/refresh ./actors",
	}, {
		name: "refresh-asks-nobody", breaks: "the refresh asks the cloud about all that is trusted",
		file: "actors/refresh/plan.go", old: "	p.Steps = append(p.Steps, s)\n", new: "	_ = s\n",
		tests: "./actors/refresh ./actors",
	}, {
		name: "stale-cache", breaks: "a broker that hears nothing decides nothing by itself after 5 s", security: true,
		file: "actors/brokers/client/feed.go", old: "return f.heard.Load() && f.age(now) <= maxStale", new: "return f.heard.Load()",
		tests: "./actors/brokers/client",
	}, {
		name: "push-gap-ignored", breaks: "a push that was missed voids what is cached", security: true,
		file: "actors/brokers/client/feed.go", old: "		return stamp.Seq != previous+1", new: "		return stamp.Seq <= previous",
		tests: "./actors/brokers/client",
	}, {
		name: "heartbeat-gap-ignored", breaks: "a heartbeat tells of a push that was missed", security: true,
		file: "actors/brokers/client/feed.go", old: "	case p == authapi.PushHeartbeat:\n		return stamp.Seq != previous", new: "	case p == authapi.PushHeartbeat:\n		return false",
		tests: "./actors/brokers/client",
	}, {
		name: "epoch-ignored", breaks: "another run of the core voids what is cached", security: true,
		file: "actors/brokers/client/feed.go", old: "	case epoch != stamp.Epoch:\n		return true", new: "	case epoch != stamp.Epoch:\n		return false",
		tests: "./actors/brokers/client",
	}, {
		name: "grant-ends-never", breaks: "a list of permissions ends with the trust that it rests on", security: true,
		file: "actors/brokers/client/session.go", old: "now.UnixNano() < g.expiresAt && ", new: "",
		tests: "./actors/brokers/client",
	}, {
		name: "policy-push-ignored", breaks: "a new policy voids the permissions that brokers hold", security: true,
		file: "actors/brokers/client/refresh.go", old: "	c.floor = max(c.floor, p.PolicyRevision)\n	c.generation.Add(1)\n	c.enqueueAll()\n", new: "	c.floor = max(c.floor, p.PolicyRevision)\n",
		tests: "./actors/brokers/client",
	}, {
		name: "old-grant-counts", breaks: "permissions that were asked for before something was missed are not used after it", security: true,
		file: "actors/brokers/client/refresh.go", old: "		generation := c.generation.Load()\n		reply, err := c.permissions(c.ctx, s.token)\n", new: "		reply, err := c.permissions(c.ctx, s.token)\n		generation := c.generation.Load()\n",
		tests: "./actors/brokers/client",
	}, {
		name: "closed-push-ignored", breaks: "a session that is closed ends at its broker", security: true,
		file: "actors/brokers/client/refresh.go", old: "	if s != nil {\n		s.finish(Ending{Cause: ByGatehouse, Reason: p.Reason})\n	}", new: "	_ = s",
		tests: "./actors/brokers/client",
	}, {
		name: "early-close-lost", breaks: "a close that arrives before the grant ends the session", security: true,
		file: "actors/brokers/client/session.go", old: "	if ended {\n		return fmt.Errorf(\"authenticate: %w: %w\"", new: "	if ended && !certain {\n		return fmt.Errorf(\"authenticate: %w: %w\"",
		tests: "./actors/brokers/client",
	}, {
		name: "deny-by-error", breaks: "no answer is no allow", security: true,
		file: "actors/brokers/client/decide.go", old: "		return Unavailable\n	case allowed:", new: "		return Allowed\n	case allowed:",
		tests: "./actors/brokers/client",
	}, {
		name: "busy-is-deny", breaks: "busy is not deny: a device that is told to come back comes back",
		file: "actors/brokers/request.go", old: "	refusal := messages.Refuse(messages.RefusedBusy, format, args...)", new: "	refusal := messages.Refuse(messages.RefusedInvalidCredential, format, args...)",
		tests: "./actors/brokers",
	}, {
		name: "reply-anywhere", breaks: "an answer goes to the inbox of who asked, and nowhere else", security: true,
		file: "actors/brokers/desk.go", old: "	if err := authapi.CheckReply(broker, m.Reply); err != nil {", new: "	if err := authapi.CheckReply(broker, m.Reply); err != nil && m.Reply == \"\" {",
		tests: "./actors/brokers",
	}, {
		name: "push-number-skipped", breaks: "pushes are numbered without gap or repeat", security: true,
		file: "actors/brokers/pusher.go", old: "	l.last++\n	p.publish(l, push, message(authapi.Stamp", new: "	p.publish(l, push, message(authapi.Stamp",
		tests: "./actors/brokers",
	}, {
		name: "policy-other-thing", breaks: "the variable in a resource is the thing that asks", security: true,
		file: "actors/policy/evaluate.go", old: "g.policy.set.Match(r, string(t.thing)); rule >= 0", new: "g.policy.set.Match(r, \"*\"); rule >= 0 || len(t.thing) > 3 && rule < -1",
		tests: "./actors/policy",
	}, {
		name: "first-group-only", breaks: "a device has the rights of all its groups",
		file: "actors/policy/evaluate.go", old: "	for _, g := range t.groups {\n		if rule", new: "	for _, g := range t.groups[:1] {\n		if rule",
		tests: "./actors/policy",
	}, {
		name: "suffix-not-anchored", breaks: "a pattern without * at its end covers its end", security: true,
		file: "messages/permission/glob.go", old: "	s, ok := t.segments[last].cutSuffix(s, value)\n	if !ok {\n		return false\n	}\n", new: "	var ok bool\n",
		tests: "./messages/permission ./actors/policy",
	}, {
		name: "serial-repeats", breaks: "no serial number is used twice",
		file: "actors/ca/decide.go", old: "		if h.Last.Serial == e.Serial || h.Ordered.Serial == e.Serial {", new: "		if h.Last.Serial == e.Serial && h.Ordered.Serial == e.Serial && e.Serial == \"\" {",
		tests: "./actors/ca ./actors",
	}, {
		name: "issued-off-record", breaks: "a certificate is on record before anybody has it", security: true,
		file: "actors/authority_issue.go", old: "	if err := a.note(ctx, &messages.CertificateIssued{\n		Subscriber: o.to.name, Serial: prepared.Serial(), Der: der, AuthorityId: string(o.issuer),\n	}); err != nil {\n		return nil, nil, err\n	}\n	a.count", new: "	_ = ctx\n	a.count",
		tests: "./actors",
	}, {
		name: "unpublished-issues", breaks: "an authority issues only after devices could learn of it",
		file: "actors/ca/plan.go", old: "		if !now.Before(s.issuesFrom(candidate)) {", new: "		if !now.Before(candidate.Since) {",
		tests: "./actors/ca ./actors",
	}, {
		name: "wrong-order-issued", breaks: "what is issued is what was ordered",
		file: "actors/ca/decide.go", old: "	if SerialText(c) != e.Serial || c.Subject.CommonName != e.Subscriber ||", new: "	if SerialText(c) != e.Serial && c.Subject.CommonName != e.Subscriber &&",
		tests: "./actors/ca",
	},
}

func mutations() []mutation {
	return append(append(append([]mutation(nil), trustBugs...), hostBugs...), edgeBugs...)
}
