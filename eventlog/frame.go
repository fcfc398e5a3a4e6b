package eventlog

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"golang.org/x/mod/sumdb/tlog"
)

// A frame is a group in the journal, cut into sectors of 512 bytes, the unit that a
// disk writes whole or not at all. Each sector says to which generation, place and
// frame it belongs, under a checksum of its own. That is what tells a torn write
// (some sectors new, the others zero or of an earlier generation) from damage (a
// sector that is none of these), even in the last frame.
//
//	sector: CRC32C of all after it 4 | generation (low half) 4 | index in file 4 |
//	        part 2 | parts 2 | last sequence number of the frame 8 | data 488
//	frame:  first sequence number 8 | count 4 | bytes of entries 4 | root after 32 | entries
//	entry:  length 4 | 0x00 (RFC 6962 leaf) | record
const (
	sectorHeadBytes = 4 + 4 + 4 + 2 + 2 + 8
	sectorDataBytes = sectorBytes - sectorHeadBytes
	frameHeadBytes  = 8 + 4 + 4 + tlog.HashSize
	framePartsMax   = (frameHeadBytes + GroupBytesMax + sectorDataBytes - 1) / sectorDataBytes
)

// frameSectors is how many sectors a frame with entryBytes of entries takes.
func frameSectors(entryBytes int) int {
	return (frameHeadBytes + entryBytes + sectorDataBytes - 1) / sectorDataBytes
}

// frameEntriesMax is how many bytes of entries fit in sectors.
func frameEntriesMax(sectors int) int { return sectors*sectorDataBytes - frameHeadBytes }

// frame is one group as the journal has it.
type frame struct {
	first   uint64
	count   uint32
	root    tlog.Hash
	entries []byte
}

func (f *frame) last() uint64 { return f.first + uint64(f.count) - 1 }

// appendFrame appends g's frame for generation gen at sector index to dst.
func appendFrame(dst []byte, g *group, gen uint64, index int) []byte {
	var head [frameHeadBytes]byte
	binary.BigEndian.PutUint64(head[:], g.first)
	binary.BigEndian.PutUint32(head[8:], uint32(len(g.recs)))
	binary.BigEndian.PutUint32(head[12:], uint32(len(g.entries)))
	copy(head[16:], g.root[:])
	parts := frameSectors(len(g.entries))
	rest := g.entries
	for part := range parts {
		start := len(dst)
		dst = append(dst, make([]byte, sectorHeadBytes)...)
		h := dst[start:]
		binary.BigEndian.PutUint32(h[4:], uint32(gen))
		binary.BigEndian.PutUint32(h[8:], uint32(index+part))
		binary.BigEndian.PutUint16(h[12:], uint16(part))
		binary.BigEndian.PutUint16(h[14:], uint16(parts))
		binary.BigEndian.PutUint64(h[16:], g.last())
		if part == 0 {
			dst = append(dst, head[:]...)
		}
		n := min(len(rest), start+sectorBytes-len(dst))
		dst = append(dst, rest[:n]...)
		rest = rest[n:]
		if pad := start + sectorBytes - len(dst); pad > 0 {
			dst = append(dst, make([]byte, pad)...)
		}
		binary.BigEndian.PutUint32(dst[start:], crc32.Checksum(dst[start+4:], castagnoli))
	}
	return dst
}

// sectorState is what a sector turns out to be.
type sectorState uint8

const (
	sectorBad     sectorState = iota // damaged
	sectorCurrent                    // of the generation asked for
	sectorOld                        // of an earlier generation: not written since
	sectorZero                       // never written
)

var zeroSector [sectorBytes]byte

// sector is a sector's head.
type sector struct {
	state       sectorState
	part, parts int
	last        uint64
}

// readSector judges the 512 bytes b found at index in a file of generation gen.
func readSector(b []byte, gen uint64, index int) sector {
	if bytes.Equal(b, zeroSector[:]) { // its checksum would not be zero
		return sector{state: sectorZero}
	}
	if crc32.Checksum(b[4:], castagnoli) != binary.BigEndian.Uint32(b) {
		return sector{state: sectorBad}
	}
	s := sector{
		part:  int(binary.BigEndian.Uint16(b[12:])),
		parts: int(binary.BigEndian.Uint16(b[14:])),
		last:  binary.BigEndian.Uint64(b[16:]),
	}
	sectorGen := binary.BigEndian.Uint32(b[4:])
	switch {
	case int(binary.BigEndian.Uint32(b[8:])) != index || s.part >= s.parts || s.parts > framePartsMax:
		s.state = sectorBad // a misdirected write
	case sectorGen == uint32(gen):
		s.state = sectorCurrent
	case int32(uint32(gen)-sectorGen) > 0:
		s.state = sectorOld
	default:
		s.state = sectorBad // from the future: the file's head is an old copy
	}
	return s
}

// parseFrame reads the data of all of a frame's sectors, padding included.
func parseFrame(data []byte) (frame, error) {
	if len(data) < frameHeadBytes {
		return frame{}, fmt.Errorf("frame of %d bytes, want at least %d", len(data), frameHeadBytes)
	}
	f := frame{
		first: binary.BigEndian.Uint64(data),
		count: binary.BigEndian.Uint32(data[8:]),
		root:  tlog.Hash(data[16:48]),
	}
	n := binary.BigEndian.Uint32(data[12:])
	if f.first == 0 || f.count == 0 || f.count > GroupEventsMax || uint64(n) > uint64(len(data)-frameHeadBytes) ||
		frameSectors(int(n))*sectorDataBytes != len(data) {
		return frame{}, fmt.Errorf("frame of %d records from %d in %d bytes, %d follow", f.count, f.first, n, len(data)-frameHeadBytes)
	}
	f.entries = data[frameHeadBytes : frameHeadBytes+int(n)]
	return f, nil
}

// nextEntry cuts the first entry off b: its bytes with leafPrefix and record, without
// the length.
func nextEntry(b []byte) (entry, rest []byte, err error) {
	if len(b) < entryHeadBytes {
		return nil, nil, fmt.Errorf("entry cut short: %d bytes left", len(b))
	}
	n := binary.BigEndian.Uint32(b)
	if n < 1 || uint64(n) > uint64(len(b)-4) {
		return nil, nil, fmt.Errorf("entry of %d bytes, %d left", n, len(b)-4)
	}
	if b[4] != leafPrefix {
		return nil, nil, fmt.Errorf("entry begins with %#x, want %#x", b[4], leafPrefix)
	}
	return b[4 : 4+n], b[4+n:], nil
}
