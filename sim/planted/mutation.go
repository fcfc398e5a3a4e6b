package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// A mutation is a bug to plant: one text in one file of the product, replaced by another.
type mutation struct {
	name   string
	breaks string // in plain words: what is promised and holds no longer
	// security: it can let somebody in who must stay out, or give a secret away.
	security bool
	file     string // from the top of the module
	old, new string // old is in the file exactly once
	tests    string // packages whose tests are to find it, if the simulator does not
}

// plant returns the file with the bug in it.
func (m *mutation) plant(top string) ([]byte, error) {
	source, err := os.ReadFile(filepath.Join(top, m.file))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m.name, err)
	}
	if n := strings.Count(string(source), m.old); n != 1 {
		return nil, fmt.Errorf("%s: its text is %d times in %s, not once: the code has changed, so change the mutation:\n%s", m.name, n, m.file, m.old)
	}
	return []byte(strings.Replace(string(source), m.old, m.new, 1)), nil
}
