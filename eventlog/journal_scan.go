package eventlog

import (
	"fmt"
	"io"
)

// gap is a range of records that were in the journal and cannot be read there.
type gap struct {
	from, to uint64 // to is 0 when it cannot be told
	where    string
}

// scan reads the frames of one generation in order and passes them to visit. What it
// cannot read it returns as gaps; a torn last frame, which nobody was told of, is none.
type scan struct {
	f       io.ReaderAt
	gen     uint64
	sectors int
	expect  uint64 // sequence number of the next record
	gaps    []gap
	torn    bool // the last frame was being written when the process or the power went
	visit   func(f frame, sector int) error

	chunk   []byte // a part of the file, from sector chunkAt on
	chunkAt int
}

// at returns sector i.
func (s *scan) at(i int) (sector, []byte, error) {
	const chunkSectors = 512
	if s.chunk == nil || i < s.chunkAt || i >= s.chunkAt+len(s.chunk)/sectorBytes {
		n := min(chunkSectors, s.sectors-i)
		b := make([]byte, n*sectorBytes)
		if _, err := s.f.ReadAt(b, journalDataStart+int64(i)*sectorBytes); err != nil {
			return sector{}, nil, fmt.Errorf("read journal sector %d: %w", i, err)
		}
		s.chunk, s.chunkAt = b, i
	}
	b := s.chunk[(i-s.chunkAt)*sectorBytes:][:sectorBytes]
	return readSector(b, s.gen, i), b, nil
}

// run reads the generation whose first record is first, to its end.
func (s *scan) run(first uint64) error {
	s.expect = first
	for i := 0; i < s.sectors; {
		f, parts, err := s.frame(i)
		if err != nil {
			return err
		}
		if parts == 0 {
			if i, err = s.resume(i); err != nil || i < 0 {
				return err
			}
			continue
		}
		if f.first > s.expect {
			s.settle(f.first-1, i)
		}
		if err := s.visit(f, i); err != nil {
			return err
		}
		s.expect = f.last() + 1
		i += parts
	}
	return nil
}

// settle ends the open gaps at to, now that the frame at sector i told where they end.
func (s *scan) settle(to uint64, i int) {
	known := false
	for k := range s.gaps {
		if g := &s.gaps[k]; g.from == s.expect {
			g.to, known = to, true
		}
	}
	if !known {
		s.damage(to, i)
	}
}

func (s *scan) damage(to uint64, i int) {
	s.gaps = append(s.gaps, gap{s.expect, to, fmt.Sprintf("sector %d of generation %d", i, s.gen)})
}

// frame reads the frame that begins at sector i. parts is 0 if none is there whole.
func (s *scan) frame(i int) (f frame, parts int, err error) {
	head, _, err := s.at(i)
	if err != nil || head.state != sectorCurrent || head.part != 0 || i+head.parts > s.sectors {
		return frame{}, 0, err
	}
	data := make([]byte, 0, head.parts*sectorDataBytes)
	for part := range head.parts {
		sec, b, err := s.at(i + part)
		if err != nil {
			return frame{}, 0, err
		}
		if sec.state != sectorCurrent || sec.part != part || sec.parts != head.parts || sec.last != head.last {
			return frame{}, 0, nil
		}
		data = append(data, b[sectorHeadBytes:]...)
	}
	f, err = parseFrame(data)
	if err != nil || f.last() != head.last || f.first < s.expect { // whole and wrong: not ours, or a defect
		return frame{}, 0, corrupt(s.expect, err, "journal sector %d of generation %d: frame of records %d to %d", i, s.gen, f.first, head.last)
	}
	return f, head.parts, nil
}

// resume looks at what follows sector i, where no whole frame begins, and returns the
// sector where the next one does, or -1 at the end.
//
// The end is clean when nothing of this generation follows. It is torn when all that
// follows is one frame from i on whose missing sectors were never written: nobody was
// told of it. Everything else is damage, for a frame is written only after the one
// before it is durable, and a sector is written whole or not at all.
func (s *scan) resume(i int) (int, error) {
	ours, bad, last, end := false, false, uint64(0), i+1
	for k := i; k < s.sectors; k++ {
		sec, _, err := s.at(k)
		if err != nil {
			return -1, err
		}
		switch {
		case sec.state == sectorCurrent && k-sec.part == i:
			ours, last, end = true, sec.last, max(end, i+sec.parts)
		case sec.state == sectorCurrent && sec.part == 0:
			s.damage(last, i)
			return k, nil
		case sec.state == sectorCurrent: // what is left of a later frame
			bad = true
		case sec.state == sectorBad && k < end:
			bad = true
		}
	}
	if bad {
		s.damage(last, i)
	}
	s.torn = ours && !bad
	return -1, nil
}
