package main

// The bugs about who is trusted: in messages/trust.go, actors/device, actors/clock*.go.
var trustBugs = []mutation{
	{
		name: "trust-end-open", breaks: "trust ends at the trust duration exactly", security: true,
		file: "messages/trust.go", old: "verifiedMs+t.DurationMs > nowMs", new: "verifiedMs+t.DurationMs+3_600_000 > nowMs",
		tests: "./messages ./actors/device ./actors",
	}, {
		name: "trust-boundary", breaks: "at the limit exactly trust holds no longer",
		file: "messages/trust.go", old: "verifiedMs+t.DurationMs > nowMs", new: "verifiedMs+t.DurationMs >= nowMs",
		tests: "./messages ./actors/device ./actors",
	}, {
		name: "trust-void-ignored", breaks: "what was voided counts no more", security: true,
		file: "messages/trust.go", old: "verifiedMs > VoidMs && verifiedMs >= t.SinceMs", new: "verifiedMs > VoidMs",
		tests: "./messages ./actors",
	}, {
		name: "certificate-validity-ignored", breaks: "a certificate outside its validity lets nobody in", security: true,
		file: "messages/trust.go", old: "return nowMs >= notBeforeMs && nowMs <= notAfterMs", new: "return nowMs >= notBeforeMs || nowMs <= notAfterMs",
		tests: "./messages ./actors/device ./actors",
	}, {
		name: "silence-is-yes", breaks: "the cloud's silence vouches for nobody", security: true,
		file: "actors/device/certificate.go", old: "	default:\n		if f.Trust.Trusted(s.Trust, at.TrustMs) {\n			return valid(", new: "	default:\n		if true {\n			return valid(",
		tests: "./actors/device ./actors",
	}, {
		name: "denied-keeps-trust", breaks: "the cloud's no takes trust in a certificate back", security: true,
		file: "actors/device/certificate.go", old: "	d.Events = []messages.Event{&messages.CertificateRefused{Source: source, Reason: reason}}\n", new: "",
		tests: "./actors/device ./actors",
	}, {
		name: "stale-yes", breaks: "a yes that was asked before a no does not count after it", security: true,
		file: "actors/device/certificate.go", old: "return f.Overtaken || a.AskedMs < deniedMs && deniedMs <= at.TrustMs", new: "return false",
		tests: "./actors/device ./actors",
	}, {
		name: "overtaken-ignored", breaks: "a yes that waited with a no, of which nothing is on record, counts for nothing",
		file: "actors/device/certificate.go", old: "return f.Overtaken || a.AskedMs", new: "return a.AskedMs",
		tests: "./actors/device ./actors",
	}, {
		name: "refresh-revives", breaks: "the clock set back: what was stamped while it was wrong is void", security: true,
		file: "actors/device/certificate.go", old: "	if f.Voided {\n		s.Trust.VerifiedMs = messages.VoidMs\n	}\n", new: "",
		tests: "./actors/device ./actors",
	}, {
		name: "attachment-of-another", breaks: "a certificate lets in only the thing that it belongs to", security: true,
		file: "actors/device/held.go", old: "		if s.Attachments[i].Certificate == id {", new: "		if s.Attachments[i].Certificate != \"\" || s.Attachments[i].Certificate == id {",
		tests: "./actors/device ./actors",
	}, {
		name: "attachment-lapse-ignored", breaks: "an attachment that was confirmed too long ago lets nobody in offline", security: true,
		file: "actors/device/device.go", old: "	case !f.Trust.Holds(confirmedMs, in.At.TrustMs):", new: "	case confirmedMs < 0:",
		tests: "./actors/device ./actors",
	}, {
		name: "certificate-lapse-ignored", breaks: "a session needs a certificate that is trusted now, not one that was", security: true,
		file: "actors/device/device.go", old: "	case !f.Trust.Trusted(f.Certificate, at.TrustMs):", new: "	case f.Certificate.NotAfterMs < at.TrustMs:",
		tests: "./actors/device ./actors",
	}, {
		name: "quarantine-opens", breaks: "a device in quarantine is not let in", security: true,
		file: "actors/device/device.go", old: "	case s.Quarantined != \"\":\n		return messages.Refuse(messages.RefusedInvalidCredential, \"the device is quarantined: %s\", s.Quarantined)\n	case !f.Certificate.Verified:", new: "	case !f.Certificate.Verified:",
		tests: "./actors/device ./actors",
	}, {
		name: "quarantine-keeps-sessions", breaks: "quarantine ends the sessions that are open, on record too",
		file: "actors/device/device.go", old: "	events = append(events, closeAll(evolved(s, events, at), \"\", messages.CloseReason_CLOSE_QUARANTINED, reason)...)\n", new: "	_ = at\n",
		tests: "./actors/device ./actors",
	}, {
		name: "quarantine-lost-on-forget", breaks: "a quarantine stays when the device is forgotten", security: true,
		file: "actors/device/device.go", old: "s = Device{WithdrawnMs: at.TrustMs, Quarantined: s.Quarantined}", new: "s = Device{WithdrawnMs: at.TrustMs}",
		tests: "./actors/device ./actors",
	}, {
		name: "withdraw-forgotten", breaks: "a withdrawn attachment is forgotten by the entity", security: true,
		file: "actors/device/device.go", old: "		s.Attachments = withoutAttachment(s.Attachments, messages.CertificateID(e.CertificateId))\n", new: "",
		tests: "./actors/device ./actors",
	}, {
		name: "connect-unjudged", breaks: "who the policy does not let connect gets no session", security: true,
		file: "actors/device/device.go", old: "	if c.Connect && !f.ConnectAllowed {", new: "	if c.Connect && !f.ConnectAllowed && f.NetworkUp {",
		tests: "./actors/device ./actors",
	}, {
		name: "pending-admits-known", breaks: "only a device of which nothing was ever known is admitted as pending", security: true,
		file: "actors/device/pending.go", old: "	case s.WithdrawnMs != 0:\n		return no(", new: "	case s.WithdrawnMs < 0:\n		return no(",
		tests: "./actors/device ./actors",
	}, {
		name: "wall-clock-trust", breaks: "trust goes by boot time, not by the wall clock", security: true,
		file: "actors/clock.go", old: "func (t *TrustClock) NowMs() int64 { return t.offsetMs.Load() + t.bootMs() }", new: "func (t *TrustClock) NowMs() int64 { return t.clock.Wall().UnixMilli() }",
		tests: "./actors",
	}, {
		name: "boot-doubt-ignored", breaks: "after a boot whose off time nobody knows stored trust does not count", security: true,
		file: "actors/clock_start.go", old: "		t.sinceMs.Store(nowMs)\n		t.dueMs = s.charge(same, nowMs)", new: "		t.dueMs = s.charge(same, nowMs)",
		tests: "./actors",
	}, {
		name: "boot-elapsed-lost", breaks: "the time since the last mark has passed also across a restart of the process", security: true,
		file: "actors/clock_start.go", old: "		nowMs = max(nowMs, last.MarkTrustMs+s.bootMs-last.BootMs)\n", new: "",
		tests: "./actors",
	}, {
		name: "unsynced-ends-doubt", breaks: "only a synchronised wall clock ends the doubt", security: true,
		file: "actors/clock.go", old: "	if !t.clock.Synced() || t.isRefuted(wallMs-bootMs) {", new: "	if t.isRefuted(wallMs - bootMs) {",
		tests: "./actors",
	}, {
		name: "one-server-moves-clock", breaks: "one answer with a wrong time does not move the clock",
		file: "actors/clock_cloud.go", old: "	case first == nil || !word.near(first) || t.known() && first.agrees(offset): // the clock has changed since\n		t.disputed = word\n		return HeardDispute, 0\n	case asked", new: "	case first == nil:\n		first = word\n		fallthrough\n	case asked",
		tests: "./actors",
	},
}
