package main

// The bugs about order and memory: in the host, the read models, the log.
var hostBugs = []mutation{
	{
		name: "reply-before-durable", breaks: "nobody sees an answer before the events it rests on are durable", security: true,
		file: "actors/entity.go", old: "	e.sys.log.Append(batch, func(records []messages.Record, err error) {\n", new: "	env.answer(d.Reply)\n	e.sys.log.Append(batch, func(records []messages.Record, err error) {\n",
		tests: "./actors",
	}, {
		name: "deny-late", breaks: "what restricts acts before it is durable", security: true,
		file: "actors/entity.go", old: "			e.sys.views.Restrict(e.stream, event, in.At) // deny early\n", new: "			_ = event\n",
		tests: "./actors ./projections",
	}, {
		name: "overtaken-lost", breaks: "the host remembers a no that left no event",
		file: "actors/entity.go", old: "			e.denied = e.questions // a yes to any of them may be old news\n", new: "",
		tests: "./actors",
	}, {
		name: "failed-append-goes-on", breaks: "after a failed append nothing more is answered", security: true,
		file: "actors/entity.go", old: "	case e.sys.failed.Load():", new: "	case false:",
		tests: "./actors",
	}, {
		name: "failed-append-answered", breaks: "an append with an unknown outcome is no yes", security: true,
		file: "actors/entity.go", old: "	f.env.answer(messages.Refuse(messages.RefusedNotReady, \"the event log cannot be written\"))\n}", new: "	f.env.answer(f.decision.Reply)\n}",
		tests: "./actors",
	}, {
		name: "abandoned-answered", breaks: "what the full log did not take was not decided", security: true,
		file: "actors/entity.go", old: "	f.env.answer(r)\n}", new: "	f.env.answer(f.decision.Reply)\n	_ = r\n}",
		tests: "./actors",
	}, {
		name: "restrict-lane-gone", breaks: "a revocation waits behind nobody, and outlives its asker's patience",
		file: "actors/entity.go", old: "	case env.ctx.Err() != nil && env.command.Lane() != messages.LaneRestrict:", new: "	case true && env.command.Lane() == messages.LaneRestrict && env.ctx.Err() == nil && e.flight == nil && len(e.waiting) > 0:",
		tests: "./actors",
	}, {
		name: "fold-not-own", breaks: "an entity goes on from what it has put on record", security: true,
		file: "actors/entity.go", old: "		e.state = e.family.evolve(e.state, event, f.at)\n	}\n	return nil\n}", new: "		_ = event\n	}\n	return nil\n}",
		tests: "./actors",
	}, {
		name: "token-any-broker", breaks: "a token serves the broker that it was issued to", security: true,
		file: "projections/authorize.go", old: "	if s == nil || s.dead.Load() || s.Broker != broker {\n		verdict.Err", new: "	if s == nil || s.dead.Load() {\n		verdict.Err",
		tests: "./projections ./actors/gate",
	}, {
		name: "session-outlives-trust", breaks: "the answer to authorize does not wait for the session to be closed: lapsed trust allows nothing", security: true,
		file: "projections/authorize.go", old: "	if !v.trusted(s, trust, nowMs) {", new: "	if v.trusted(s, trust, nowMs) && false {",
		tests: "./projections ./actors/gate",
	}, {
		name: "policy-cached-for-ever", breaks: "a session is judged by the policy that is in force", security: true,
		file: "projections/authorize.go", old: "	if p := s.permitted.Load(); p != nil && p.compiled == c {", new: "	if p := s.permitted.Load(); p != nil {",
		tests: "./projections ./actors/gate",
	}, {
		name: "tightening-late", breaks: "a tighter policy acts before it is durable", security: true,
		file: "projections/authorize.go", old: "	verdict.Allowed = d.Allowed && (p.next == nil ||", new: "	verdict.Allowed = d.Allowed && (p.next != p.next || p.next == nil || true ||",
		tests: "./projections ./actors/gate ./actors",
	}, {
		name: "bad-policy-allows", breaks: "a policy that cannot be read allows nothing", security: true,
		file: "actors/core/document.go", old: "	if err != nil {\n		return reject(s, \"deviceGroups\"", new: "	if err != nil && doc == nil && false {\n		return reject(s, \"deviceGroups\"",
		tests: "./actors/core ./actors",
	}, {
		name: "withdrawn-stays", breaks: "what is withdrawn is gone from the read models",
		file: "projections/trust.go", old: "	v.detach(name, id)\n	if v.CloseOnRevoke() {", new: "	if v.CloseOnRevoke() {",
		tests: "./projections ./actors",
	}, {
		name: "refused-keeps-sessions", breaks: "a refused certificate's sessions end at once", security: true,
		file: "projections/trust.go", old: "		c.confirmedMs.Store(never)\n		v.agenda.changed(&c.basis)\n	}\n	return c", new: "		v.agenda.changed(&c.basis)\n	}\n	return c",
		tests: "./projections ./actors",
	}, {
		name: "quarantine-view-late", breaks: "a quarantine ends live sessions at once", security: true,
		file: "projections/trust.go", old: "	v.endPending(name)\n	v.endAll(v.sessionsOf(name, \"\"), messages.CloseReason_CLOSE_QUARANTINED, reason)\n}", new: "	v.endPending(name)\n	_ = reason\n}",
		tests: "./projections ./actors",
	}, {
		name: "reanchor-revives", breaks: "the read models void what was stamped by a wrong clock", security: true,
		file: "projections/views.go", old: "	if ms := b.confirmedMs.Load(); ms != never && ms > afterMs {", new: "	if ms := b.confirmedMs.Load(); ms != never && ms > afterMs && ms < 0 {",
		tests: "./projections ./actors",
	}, {
		name: "keeper-sleeps", breaks: "who is revoked in the cloud is noticed while it is connected",
		file: "actors/keeper.go", old: "	for _, c := range due.Certificates {\n		k.ask(c)\n	}\n", new: "",
		tests: "./actors",
	}, {
		name: "lapse-unnoticed", breaks: "sessions whose trust has lapsed are closed",
		file: "actors/keeper.go", old: "			k.sys.tell(c, messages.Cause{Request: \"keeper\"})\n", new: "			_ = c\n",
		tests: "./actors ./actors/brokers/mochi ./sim/scenario",
	}, {
		name: "no-sync", breaks: "what is acknowledged survives a power cut", security: false,
		file: "eventlog/journal.go", old: "	j.step(StepWritten, g.recs)\n	if err := datasync(f); err != nil {", new: "	j.step(StepWritten, g.recs)\n	if err := error(nil); err != nil {",
		tests: "./eventlog",
	}, {
		name: "answer-before-write", breaks: "an append is answered when it is durable, and not before", security: true,
		file: "eventlog/append.go", old: "			if err = s.persist(g); err != nil {", new: "			g.answerAll(nil)\n			g.answers = nil\n			if err = s.persist(g); err != nil {",
		tests: "./eventlog",
	}, {
		name: "root-unchecked", breaks: "a journal whose records were changed does not open", security: true,
		file: "eventlog/recover_judge.go", old: "	if len(rest) != 0 || g.root != f.root {", new: "	if len(rest) != 0 {",
		tests: "./eventlog",
	}, {
		name: "leaves-unchecked", breaks: "stored records that were changed are noticed at the start", security: true,
		file: "eventlog/recover_judge.go", old: "	if got := t.root(); got != l.state.head.Root {", new: "	if got := t.root(); got != l.state.head.Root && stored == 0 {",
		tests: "./eventlog",
	}, {
		name: "head-unchecked", breaks: "a log that is shorter than its HEAD does not open", security: true,
		file: "eventlog/recover.go", old: "	if r.last < r.head.head.Seq || clean && r.last != r.head.head.Seq {", new: "	if clean && r.last > r.head.head.Seq {",
		tests: "./eventlog",
	}, {
		name: "conflict-ignored", breaks: "two writers of one stream are noticed",
		file: "eventlog/group.go", old: "	if have := s.version(g, k); have != p.batch.Expected {", new: "	if have := s.version(g, k); have > p.batch.Expected {",
		tests: "./eventlog ./eventlog/eventlogtest",
	}, {
		name: "repeat-doubles", breaks: "a repeated append has one effect",
		file: "eventlog/group.go", old: "		if recs := s.find(g, b); repeats(recs, b) {", new: "		if recs := s.find(g, b); len(recs) > 1_000_000 {",
		tests: "./eventlog",
	},
}
