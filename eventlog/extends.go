package eventlog

import (
	"fmt"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Extends checks l against a checkpoint that somebody kept elsewhere: l has all the records
// that the checkpoint counts, and they are the same. It returns what the checkpoint says. A
// log that is shorter or another one, as after an old copy of the whole directory was put
// back, is a CorruptError: nothing inside of the directory can show it. verifier checks the
// signature; nil takes the checkpoint at its word.
func Extends(l Log, checkpoint []byte, verifier note.Verifier) (Head, error) {
	origin := ""
	if verifier != nil {
		origin = verifier.Name()
	}
	kept, err := openCheckpoint(checkpoint, origin, verifier)
	if err != nil {
		return Head{}, err
	}
	now := l.Head()
	switch {
	case now.Seq < kept.Seq:
		return kept, corrupt(now.Seq+1, nil, "the log ends at record %d, and a checkpoint of it was kept of record %d: an older copy was put back", now.Seq, kept.Seq)
	case kept.Seq == 0:
		return kept, nil
	}
	proof, err := l.ConsistencyProof(kept.Seq, now.Seq)
	if err != nil {
		return kept, fmt.Errorf("compare with the checkpoint: %w", err)
	}
	if err := tlog.CheckTree(proof, int64(now.Seq), now.Root, int64(kept.Seq), kept.Root); err != nil {
		return kept, corrupt(kept.Seq, err, "it is another log than the one that the checkpoint of record %d was kept of", kept.Seq)
	}
	return kept, nil
}
