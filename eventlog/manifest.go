package eventlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/pb"
	"google.golang.org/protobuf/proto"
)

// Badger writes a change to MANIFEST and syncs it after it has made the tables that the
// change names. When that sync fails it deletes those tables again, and the change stays in
// the file: at the next open Badger, and a check of its tables, miss them, though what they
// held is in the write-ahead log or in the tables that they were made of, which the same
// change takes off the list. A change whose tables are not there did not come about: it is
// left out, and whether that makes the content complete is judged as always.

// MANIFEST: "Bdgr" | the user's version 2 | Badger's version 2 | changes
//
//	change: length 4 | CRC32C 4 | protobuf ManifestChangeSet
const (
	manifestHeadBytes   = 8
	manifestChangeBytes = 8
	manifestChangeMax   = 16 << 20
)

// tableName is the file name of a table.
func tableName(id uint64) string { return fmt.Sprintf("%06d", id) + tableSuffix }

// mendManifest returns MANIFEST of dir, rewritten without the changes that did not come
// about, and the tables that it lists then. mended is false if nothing was to be left out.
func mendManifest(dir string, o badger.Options) (manifest []byte, tables []string, mended bool, err error) {
	manifest, err = os.ReadFile(filepath.Join(dir, manifestName))
	if err != nil {
		return nil, nil, false, fmt.Errorf("read Badger's MANIFEST: %w", err)
	}
	if tables, err = listedTables(dir, o); err != nil {
		return nil, nil, false, err
	}
	missing := map[uint64]bool{}
	for _, name := range tables {
		if _, err := os.Lstat(filepath.Join(dir, name)); errors.Is(err, os.ErrNotExist) {
			var id uint64
			if _, err := fmt.Sscanf(name, "%d", &id); err != nil {
				return nil, nil, false, fmt.Errorf("table %q: %w", name, err)
			}
			missing[id] = true
		}
	}
	if len(missing) == 0 {
		return manifest, tables, false, nil
	}
	changes, err := manifestChanges(manifest)
	if err != nil {
		return nil, nil, false, err
	}
	list, order := map[uint64]*pb.ManifestChange{}, []uint64(nil)
	for _, set := range changes {
		if !cameAbout(set, missing) {
			continue
		}
		for _, c := range set.Changes {
			switch {
			case c.Op == pb.ManifestChange_DELETE:
				delete(list, c.Id)
			case !missing[c.Id]:
				list[c.Id] = c
				order = append(order, c.Id)
			}
		}
	}
	set, tables := &pb.ManifestChangeSet{}, nil
	for _, id := range order {
		if c := list[id]; c != nil {
			set.Changes = append(set.Changes, c)
			tables = append(tables, tableName(id))
			delete(list, id) // once
		}
	}
	body, err := proto.Marshal(set)
	if err != nil {
		return nil, nil, false, fmt.Errorf("mend Badger's MANIFEST: %w", err)
	}
	out := append([]byte(nil), manifest[:manifestHeadBytes]...)
	out = binary.BigEndian.AppendUint32(out, uint32(len(body)))
	out = binary.BigEndian.AppendUint32(out, crc32.Checksum(body, castagnoli))
	return append(out, body...), tables, true, nil
}

// cameAbout reports whether a change that takes tables off the list has all that replace
// them. One that only adds is looked at table by table: a rewritten MANIFEST is one such.
func cameAbout(set *pb.ManifestChangeSet, missing map[uint64]bool) bool {
	deletes, lacks := false, false
	for _, c := range set.Changes {
		deletes = deletes || c.Op == pb.ManifestChange_DELETE
		lacks = lacks || c.Op == pb.ManifestChange_CREATE && missing[c.Id]
	}
	return !deletes || !lacks
}

// manifestChanges reads the changes up to the first that is torn, as Badger does.
func manifestChanges(b []byte) (list []*pb.ManifestChangeSet, err error) {
	if len(b) < manifestHeadBytes {
		return nil, errors.New("read Badger's MANIFEST: it is too short")
	}
	for b = b[manifestHeadBytes:]; len(b) >= manifestChangeBytes; {
		n := uint64(binary.BigEndian.Uint32(b))
		if n > manifestChangeMax || n > uint64(len(b)-manifestChangeBytes) {
			break
		}
		body := b[manifestChangeBytes : manifestChangeBytes+n]
		if crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(b[4:]) {
			return nil, errors.New("read Badger's MANIFEST: checksum of a change differs")
		}
		set := &pb.ManifestChangeSet{}
		if err := proto.Unmarshal(body, set); err != nil {
			return nil, fmt.Errorf("read Badger's MANIFEST: %w", err)
		}
		list = append(list, set)
		b = b[manifestChangeBytes+n:]
	}
	return list, nil
}
