package eventlog_test

import (
	"crypto/rand"
	"errors"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/gatehouse-edge/gatehouse/eventlog"
	"github.com/gatehouse-edge/gatehouse/eventlog/eventlogtest"
)

func keys(t testing.TB, name string) (note.Signer, note.Verifier) {
	t.Helper()
	skey, vkey, err := note.GenerateKey(rand.Reader, name)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	return signer, verifier
}

func TestCheckpointsAreSignedStoredAndVerified(t *testing.T) {
	signer, verifier := keys(t, "core-1.example/log")
	_, stranger := keys(t, "core-1.example/log")
	dir := t.TempDir()
	l := open(t, dir, eventlog.Options{Signer: signer, Verifier: verifier})
	for i := range 40 { // 4,000 events: a checkpoint every 1,024 and at each open
		eventlogtest.MustAppend(t, l, eventlogtest.Device(i), 0, 100)
	}
	head := l.Head()
	text, err := l.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	n, err := note.Open(text, note.VerifierList(verifier))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(n.Text, "\n")
	if len(lines) != 4 || lines[0] != "core-1.example/log" || lines[1] != "4000" || lines[2] != head.Root.String() {
		t.Errorf("checkpoint %q, want origin, 4000 and %v", n.Text, head.Root)
	}
	closeLog(t, l)

	for range 2 {
		l = open(t, dir, eventlog.Options{Signer: signer, Verifier: verifier})
		if rep, err := l.Verify(t.Context(), nil); err != nil || rep.Head != head || rep.Checkpoints == 0 {
			t.Errorf("verify: %+v, %v, want head %v and checkpoints", rep, err, head)
		}
		closeLog(t, l)
	}
	l = open(t, dir, eventlog.Options{ReadOnly: true}) // an auditor without the key
	if rep, err := l.Verify(t.Context(), nil); err != nil || rep.Head != head {
		t.Errorf("verify without a key: %+v, %v", rep, err)
	}
	closeLog(t, l)
	if _, err := eventlog.Open(dir, small(eventlog.Options{ReadOnly: true, Verifier: stranger})); !errors.Is(err, eventlog.ErrCorrupt) {
		t.Errorf("open with another key: got %v, want ErrCorrupt", err)
	}
}
