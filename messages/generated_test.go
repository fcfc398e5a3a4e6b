package messages

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestGeneratedCodeIsCurrent runs the generator on events.proto and finds the committed
// files byte for byte.
func TestGeneratedCodeIsCurrent(t *testing.T) {
	// The test cache sees what this process opens, not what the generator does.
	for _, path := range []string{"../cmd/internal/protogen/main.go", "../go.mod", "../go.sum"} {
		if _, err := os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	source, err := os.ReadFile("events.proto")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "events.proto"), source, 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "go", "run", "../cmd/internal/protogen", "-dir", dir).CombinedOutput(); err != nil {
		t.Fatalf("generator: %v\n%s", err, out)
	}
	for pattern, folder := range map[string]string{"here": ".", "generated": dir} {
		files, err := filepath.Glob(filepath.Join(folder, "*.pb.go"))
		if err != nil || len(files) != 2 {
			t.Fatalf("%s: generated files %v (error %v), want two", pattern, files, err)
		}
		for _, file := range files {
			name := filepath.Base(file)
			want, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Errorf("the generator no longer writes %s: remove it", name)
				continue
			}
			if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s is not what the generator writes (error %v): go generate ./messages", name, err)
			}
		}
	}
}
