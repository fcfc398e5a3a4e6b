package world

import (
	"errors"
	"testing"
)

// What fails unasked, an append or a system that does not come to rest, is heard of at the
// latest in the end.
func TestCloseTellsWhatFailed(t *testing.T) {
	w, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Errorf("nothing failed: %v", err)
	}
	if w, err = New(Config{}); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("the disk is full")
	w.logOptions().Fatal(broken)
	if err := w.Close(); !errors.Is(err, broken) {
		t.Errorf("got %v, want %v", err, broken)
	}
}
