package eventlog

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// checkpointBytesMax bounds a checkpoint, signatures included.
const checkpointBytesMax = 2048

// signCheckpoint writes h as a C2SP tlog-checkpoint: origin, size and root on a line
// each, as a signed note where there is a signer.
func signCheckpoint(origin string, h Head, signer note.Signer) ([]byte, error) {
	text := origin + "\n" + strconv.FormatUint(h.Seq, 10) + "\n" + base64.StdEncoding.EncodeToString(h.Root[:]) + "\n"
	if signer == nil {
		return []byte(text), nil
	}
	signed, err := note.Sign(&note.Note{Text: text}, signer)
	if err != nil {
		return nil, fmt.Errorf("sign checkpoint of %d records: %w", h.Seq, err)
	}
	if len(signed) > checkpointBytesMax {
		return nil, fmt.Errorf("checkpoint of %d records: %d bytes, want at most %d", h.Seq, len(signed), checkpointBytesMax)
	}
	return signed, nil
}

// openCheckpoint reads a checkpoint and checks its signature if verifier is set.
func openCheckpoint(msg []byte, origin string, verifier note.Verifier) (Head, error) {
	if len(msg) > checkpointBytesMax {
		return Head{}, fmt.Errorf("checkpoint: %d bytes, want at most %d", len(msg), checkpointBytesMax)
	}
	text := string(msg)
	if verifier != nil {
		n, err := note.Open(msg, note.VerifierList(verifier))
		if unsigned, ok := errors.AsType[*note.UnverifiedNoteError](err); ok {
			return Head{}, fmt.Errorf("checkpoint: not signed by this log's key, %s, but: %.200q", verifier.Name(), unsigned.Note.Text)
		}
		if err != nil {
			return Head{}, fmt.Errorf("checkpoint: %w", err)
		}
		text = n.Text
	}
	return parseCheckpoint(text, origin)
}

// parseCheckpoint reads a checkpoint's first three lines; more may follow (C2SP).
func parseCheckpoint(text, origin string) (Head, error) {
	lines := strings.SplitN(text, "\n", 4)
	if len(lines) < 4 {
		return Head{}, fmt.Errorf("checkpoint: %d lines, want at least 3", len(lines)-1)
	}
	if origin != "" && lines[0] != origin {
		return Head{}, fmt.Errorf("checkpoint: origin is %.80q, want %q", lines[0], origin)
	}
	size, err := strconv.ParseUint(lines[1], 10, 63)
	if err != nil || strconv.FormatUint(size, 10) != lines[1] {
		return Head{}, fmt.Errorf("checkpoint: size is %.80q, want a number", lines[1])
	}
	root, err := base64.StdEncoding.Strict().DecodeString(lines[2])
	if err != nil || len(root) != tlog.HashSize {
		return Head{}, fmt.Errorf("checkpoint: root is %.80q, want %d bytes in base64", lines[2], tlog.HashSize)
	}
	return Head{Seq: size, Root: tlog.Hash(root)}, nil
}
