package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"math"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors/keys"
	"github.com/gatehouse-edge/gatehouse/eventlog"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// start measures how long the daemon's own process takes from its beginning to "ready"
// with fleets of devices on record, each of which has connected: after an orderly end,
// after SIGKILL, and where nothing but the log is there.
func start(ctx context.Context, b *bench) ([]Row, error) {
	return ofEach(ctx, b, b.fleets, startFleet)
}

// ofEach compiles the daemon and measures it with one fleet after the other.
func ofEach(ctx context.Context, b *bench, fleets []fleet, measure func(ctx context.Context, b *bench, program string, f fleet) ([]Row, error)) (rows []Row, err error) {
	program, err := buildDaemon(ctx, b)
	if err != nil {
		return nil, err
	}
	for _, f := range fleets {
		got, err := measure(ctx, b, program, f)
		if err != nil {
			return rows, fmt.Errorf("%d devices: %w", f.devices, err)
		}
		rows = append(rows, got...)
	}
	return rows, nil
}

// fleet is how many devices there are, and in how many seconds a start must be ready.
type fleet struct {
	name      string
	devices   int
	hold, aim *Bound
}

// startsEach is how often each kind of start is measured.
const startsEach = 3

func startFleet(ctx context.Context, b *bench, program string, f fleet) ([]Row, error) {
	s, err := newSite(b, program, f.devices)
	if err != nil {
		return nil, err
	}
	if err := s.fill(ctx); err != nil {
		return nil, err
	}
	// The first start folds the whole log; the orderly end of each is the next one's
	// beginning, and so is the kill of each.
	kinds := []struct {
		suffix string
		end    os.Signal // of the process before, which is the first start's in the first place
		times  int
	}{{"/from-log", nil, 1}, {"", os.Interrupt, startsEach}, {"/killed", syscall.SIGKILL, startsEach}}
	var rows []Row
	var running *process
	defer func() { running.kill() }()
	for _, k := range kinds {
		var samples []sample
		var peak int64
		for range k.times {
			if k.end != nil {
				if err := running.end(k.end); err != nil {
					return rows, err
				}
			}
			p, took, err := s.start(ctx)
			running = p
			if err != nil {
				return rows, err
			}
			samples = append(samples, sample{ops: 1, took: took, cpu: p.processorTime()})
			peak = max(peak, p.peakBytes())
		}
		hold, aim := f.hold, f.aim
		if k.end == nil {
			hold, aim = nil, nil
		}
		row := alone("start/"+f.name+k.suffix, "s", samples, func(s sample) float64 { return s.took.Seconds() }, hold, aim)
		row.Note = fmt.Sprintf("processor time %.1f s, at most %d MiB resident; %d records", median(each(samples, func(s sample) float64 { return s.cpu.Seconds() })), peak>>20, s.records)
		rows = append(rows, row)
	}
	return rows, nil
}

// buildDaemon compiles the program that is measured, with what the product's go.mod says.
func buildDaemon(ctx context.Context, b *bench) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/gatehouse-edge/gatehouse").Output()
	if err != nil {
		return "", fmt.Errorf("find the product's source: %w", err)
	}
	program := filepath.Join(b.scratch, "gatehouse")
	build := exec.CommandContext(ctx, "go", "build", "-o", program, "./cmd/gatehouse")
	build.Dir = strings.TrimSpace(string(out))
	if said, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the daemon: %w: %s", err, said)
	}
	return program, nil
}

// site is a daemon's directory and configuration.
type site struct {
	dir, program, http string
	devices            int
	records            uint64
}

func newSite(b *bench, program string, devices int) (*site, error) {
	dir, err := b.folder("start")
	if err != nil {
		return nil, err
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &site{dir: dir, program: program, http: free.Addr().String(), devices: devices}
	text := fmt.Sprintf(`dir: data
nats: {listen: "127.0.0.1:0"}
http: {listen: %q}
clientDeviceAuth:
  performance: {maxActiveAuthTokens: 2000000000}
  security: {clientDeviceTrustDurationMinutes: "1440"}
  certificateAuthority: {caType: [ECDSA_P256]}
  deviceGroups:
    formatVersion: 2021-03-05
    definitions: {all: {selectionRule: "thingName: *", policyName: p}}
    policies: {p: {all: {operations: ["mqtt:connect"], resources: ["mqtt:clientId:*"]}}}
`, s.http)
	return s, errors.Join(free.Close(), os.WriteFile(filepath.Join(dir, "gatehouse.yaml"), []byte(text), 0o600))
}

// fill puts into the daemon's log what devices leave there that connected, left, and are
// connected again.
func (s *site) fill(ctx context.Context) error {
	return s.fillWith(ctx, func(yield func(eventlog.Batch) bool) {
		const connected, again = 3, 2 // events of a certificate, an attachment and a session; of its end and the next
		for device := range s.devices {
			for _, batch := range life(device, connected) {
				if !yield(batch) {
					return
				}
			}
		}
		for device := range s.devices {
			batch := life(device, connected+again)[1]
			batch.Drafts, batch.Expected = batch.Drafts[connected-1:], connected-1
			if !yield(batch) {
				return
			}
		}
	})
}

// fillWith lets the daemon make its directory, and puts batches into its log.
func (s *site) fillWith(ctx context.Context, batches iter.Seq[eventlog.Batch]) (err error) {
	p, err := s.run(ctx)
	if err != nil {
		return err
	}
	if err := p.end(os.Interrupt); err != nil {
		return err
	}
	store, err := keys.Open(filepath.Join(s.dir, "data", "keys"), keys.Options{})
	if err != nil {
		return err
	}
	signer, verifier, err := store.LogSigner()
	if err != nil {
		return err
	}
	log, err := eventlog.Open(filepath.Join(s.dir, "data", "log"), eventlog.Options{
		KnownKind: messages.Known, Signer: signer, Verifier: verifier, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	defer func() { s.records = log.Head().Seq }()
	return appendAll(ctx, log, batches)
}

// start runs the daemon and says how long it took to be ready, with every device known.
func (s *site) start(ctx context.Context) (*process, time.Duration, error) {
	began := time.Now()
	p, err := s.run(ctx)
	took := time.Since(began)
	if err != nil {
		return p, took, err
	}
	return p, took, s.knowsAll(ctx)
}

func (s *site) knowsAll(ctx context.Context) error {
	ask, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.http+"/metrics", nil)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(ask)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	for _, name := range []string{"devices", "sessions"} {
		known := math.NaN()
		for line := range strings.Lines(string(text)) {
			if value, ok := strings.CutPrefix(line, "gatehouse_"+name+" "); ok {
				if _, err := fmt.Sscan(value, &known); err != nil {
					return err
				}
			}
		}
		if known != float64(s.devices) {
			return fmt.Errorf("the daemon is ready and knows %v %s, want %d", known, name, s.devices)
		}
	}
	return nil
}

// process is a running daemon.
type process struct {
	cmd  *exec.Cmd
	said io.ReadCloser
	text strings.Builder // what it logged
}

// run starts the daemon and returns when it says that it is ready.
func (s *site) run(ctx context.Context) (*process, error) {
	p := &process{cmd: exec.CommandContext(ctx, s.program, "serve", "-c", "gatehouse.yaml")}
	p.cmd.Dir, p.cmd.Stderr = s.dir, &p.text
	var err error
	if p.said, err = p.cmd.StdoutPipe(); err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(p.said).ReadString('\n')
	if err != nil || line != "ready\n" {
		p.kill()
		return nil, fmt.Errorf("the daemon says %q (%w): %s", line, err, p.text.String())
	}
	return p, nil
}

// end sends sig and waits until the process is gone.
func (p *process) end(sig os.Signal) error {
	if err := p.cmd.Process.Signal(sig); err != nil {
		return err
	}
	if err := p.cmd.Wait(); err != nil && sig != syscall.SIGKILL {
		return fmt.Errorf("the daemon: %w: %s", err, p.text.String())
	}
	return nil
}

func (p *process) kill() {
	if p != nil && p.cmd.ProcessState == nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	}
}
