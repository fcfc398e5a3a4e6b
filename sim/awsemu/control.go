package awsemu

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/gatehouse-edge/gatehouse/cloudsync"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu/fault"
)

// socketPathMax is what fits into a unix socket's address with room for the temporary
// name it is made under.
const socketPathMax = 90

// ControlInfo is what the emulated cloud tells about itself.
type ControlInfo struct {
	Online       bool                        `json:"online"`
	Endpoint     string                      `json:"endpoint"`
	Things       int                         `json:"things"`
	Control      string                      `json:"controlEndpoint"`
	MQTT         string                      `json:"mqttEndpoint"`
	Credentials  string                      `json:"credentialEndpoint"`
	Certificates []CertificateInfo           `json:"certificates"`
	Authorities  []AuthorityInfo             `json:"caCertificates,omitempty"` // registered CAs of devices
	Associated   map[messages.ThingName]int  `json:"associatedClientDevices"`  // how many, by core
	Faults       []fault.State               `json:"faults,omitempty"`
	Calls        map[cloudsync.Operation]int `json:"calls"` // of those that were called
}

// controlOrder is the body of every order: each takes the members it needs.
type controlOrder struct {
	Online      *bool                  `json:"online,omitempty"`
	Certificate messages.CertificateID `json:"certificate,omitempty"`
	Thing       messages.ThingName     `json:"thing,omitempty"`
	Status      Status                 `json:"status,omitempty"`
	Core        messages.ThingName     `json:"core,omitempty"` // empty: the only one
	Things      []messages.ThingName   `json:"things,omitempty"`
	Script      *fault.Script          `json:"script,omitempty"`
	DER         []byte                 `json:"der,omitempty"` // base64 in JSON
	Addresses   []Connectivity         `json:"addresses,omitempty"`
	Devices     []Enrolment            `json:"devices,omitempty"`
}

// Enrolment is a client device with its certificate.
type Enrolment struct {
	Thing messages.ThingName `json:"thing"`
	DER   []byte             `json:"der"` // base64 in JSON
}

// Paths of the control protocol: JSON over HTTP on a unix socket.
const (
	pathStatus       = "/v1/status"       // GET: ControlInfo
	pathSeed         = "/v1/seed"         // GET: the registry's file form
	pathAssociations = "/v1/associations" // GET: Associations, of the core in the query
	pathConnectivity = "/v1/connectivity" // GET: CoreInfo, of the core in the query; POST: core, addresses
	pathOnline       = "/v1/online"       // POST: online
	pathCertificate  = "/v1/certificate"  // POST: certificate, status
	pathAttach       = "/v1/attach"       // POST: thing, certificate
	pathDetach       = "/v1/detach"       // POST: thing, certificate
	pathAssociate    = "/v1/associate"    // POST: core, things
	pathDisassociate = "/v1/disassociate" // POST: core, things
	pathFaults       = "/v1/faults"       // POST: script
	pathEnroll       = "/v1/enroll"       // POST: thing, der
	pathEnrollAll    = "/v1/enroll-all"   // POST: devices
)

// Control is a served control socket.
type Control struct {
	server *http.Server
	path   string
	wg     sync.WaitGroup
}

// ServeControl serves orders from the command line at a unix socket that only its owner
// can use (mode 0600). It works while the cloud is offline. Close the Control before the
// Emulator.
func (e *Emulator) ServeControl(socketPath string) (*Control, error) {
	listener, err := listenPrivately(socketPath)
	if err != nil {
		return nil, fmt.Errorf("control socket %s: %w", socketPath, err)
	}
	c := &Control{path: socketPath, server: &http.Server{
		Handler:           e.controlHandler(),
		ReadHeaderTimeout: headerReadTimeout,
		IdleTimeout:       connIdleTimeout,
		MaxHeaderBytes:    headerBytesMax,
	}}
	c.wg.Go(func() { _ = c.server.Serve(listener) }) // ends with http.ErrServerClosed
	return c, nil
}

// Close removes the socket.
func (c *Control) Close() {
	_ = c.server.Close()
	c.wg.Wait()
	_ = os.Remove(c.path)
}

// ErrServed is wrapped when another process serves a control socket already.
var ErrServed = errors.New("another process serves it: stop that one, or use another directory")

// listenPrivately makes the socket in a directory that only its owner may enter, narrows
// its mode there, and only then moves it to its place, so that there is no moment in
// which others could connect.
func listenPrivately(path string) (net.Listener, error) {
	if len(path) > socketPathMax {
		return nil, fmt.Errorf("the path has %d bytes, a socket's may have %d: use a shorter directory", len(path), socketPathMax)
	}
	if conn, err := net.DialTimeout("unix", path, time.Second); err == nil {
		_ = conn.Close()
		return nil, ErrServed
	}
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() != os.ModeSocket {
		return nil, errors.New("there is a file of that name that is no socket: remove it")
	}
	private, err := os.MkdirTemp(filepath.Dir(path), ".c") // mode 0700
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(private) }()
	address := &net.UnixAddr{Name: filepath.Join(private, "s"), Net: "unix"}
	listener, err := net.ListenUnix("unix", address)
	if err != nil {
		return nil, err
	}
	listener.SetUnlinkOnClose(false) // it moves; Control.Close removes it
	if err := errors.Join(os.Chmod(address.Name, 0o600), os.Rename(address.Name, path)); err != nil {
		_ = listener.Close()
		return nil, err
	}
	return listener, nil
}

func (e *Emulator) controlHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+pathStatus, func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, e.info())
	})
	mux.HandleFunc("GET "+pathSeed, func(w http.ResponseWriter, _ *http.Request) {
		text, err := e.registry.Encode()
		if err != nil {
			writeJSON(w, http.StatusInternalServerError, map[string]string{"error": err.Error()})
			return
		}
		writeJSON(w, http.StatusOK, json.RawMessage(text))
	})
	order := func(path string, obey func(controlOrder) error) {
		mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
			o, err := readOrder(r.Body)
			if err == nil {
				err = obey(o)
			}
			if err != nil {
				writeJSON(w, statusOf(err), map[string]string{"error": err.Error()})
				return
			}
			writeJSON(w, http.StatusOK, struct{}{})
		})
	}
	order(pathOnline, func(o controlOrder) error {
		if o.Online == nil {
			return errors.New("say whether online")
		}
		return e.Offline(!*o.Online)
	})
	order(pathCertificate, func(o controlOrder) error { return e.registry.SetStatus(o.Certificate, o.Status) })
	order(pathAttach, func(o controlOrder) error { return e.registry.Attach(o.Thing, o.Certificate) })
	order(pathDetach, func(o controlOrder) error { return e.registry.Detach(o.Thing, o.Certificate) })
	order(pathEnroll, e.enroll)
	order(pathEnrollAll, e.enrollAll)
	order(pathAssociate, func(o controlOrder) error {
		core, err := e.coreOf(o.Core)
		if err != nil {
			return err
		}
		return e.registry.Associate(core, e.now(), o.Things...)
	})
	order(pathDisassociate, func(o controlOrder) error {
		core, err := e.coreOf(o.Core)
		if err != nil {
			return err
		}
		return e.registry.Disassociate(core, o.Things...)
	})
	order(pathConnectivity, e.setConnectivity)
	order(pathFaults, func(o controlOrder) error {
		if o.Script == nil {
			return errors.New("say which script")
		}
		return e.SetFaults(*o.Script)
	})
	question := func(path string, answer func(core messages.ThingName) any) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
			core, err := e.coreOf(messages.ThingName(r.URL.Query().Get("core")))
			if err != nil {
				writeJSON(w, statusOf(err), map[string]string{"error": err.Error()})
				return
			}
			writeJSON(w, http.StatusOK, answer(core))
		})
	}
	question(pathAssociations, func(core messages.ThingName) any {
		return Associations{Core: core, Devices: append([]Association{}, e.registry.Associated(core)...)}
	})
	question(pathConnectivity, func(core messages.ThingName) any { return e.registry.coreInfo(core) })
	return mux
}

// CoreInfo is what devices discover of a core, and the version by which its shadow tells
// the core of new addresses.
type CoreInfo struct {
	Core        messages.ThingName `json:"core"`
	Addresses   []Connectivity     `json:"addresses"`
	Authorities []string           `json:"authorities"` // PEM, the newest first
	Version     string             `json:"version"`     // empty: there was none yet
}

// Associations are the client devices of a core.
type Associations struct {
	Core    messages.ThingName `json:"core"`
	Devices []Association      `json:"devices"`
}

// enroll registers a client device, and associates it with the core if there is one.
func (e *Emulator) enroll(o controlOrder) error {
	cores := e.registry.Cores()
	return e.registry.Update(func(b *Batch) error {
		if err := b.Enroll(o.Thing, &Identity{ID: messages.CertificateIDOf(o.DER), DER: o.DER}, false); err != nil || len(cores) != 1 {
			return err
		}
		return b.Associate(cores[0], e.now(), o.Thing)
	})
}

// enrollAll is enroll for many at once. What is known stays as somebody has left it.
func (e *Emulator) enrollAll(o controlOrder) error {
	cores := e.registry.Cores()
	return e.registry.Update(func(b *Batch) error {
		var things []messages.ThingName
		for _, d := range o.Devices {
			err := b.Enroll(d.Thing, &Identity{ID: messages.CertificateIDOf(d.DER), DER: d.DER}, false)
			if errors.Is(err, ErrExists) {
				continue
			}
			if err != nil {
				return err
			}
			things = append(things, d.Thing)
		}
		if len(cores) != 1 || len(things) == 0 {
			return nil
		}
		return b.Associate(cores[0], e.now(), things...)
	})
}

func (e *Emulator) setConnectivity(o controlOrder) error {
	core, err := e.coreOf(o.Core)
	if err != nil {
		return err
	}
	_, err = e.registry.SetConnectivity(core, e.now(), o.Addresses...)
	return err
}

// coreOf is the core that is meant: the only one, if none is named.
func (e *Emulator) coreOf(given messages.ThingName) (messages.ThingName, error) {
	cores := e.registry.Cores()
	switch {
	case given != "" && slices.Contains(cores, given):
		return given, nil
	case given != "":
		return "", fmt.Errorf("core %.128q: %w", given, ErrNotFound)
	case len(cores) == 1:
		return cores[0], nil
	}
	return "", fmt.Errorf("there are %d cores: name one", len(cores))
}

const orderBytesMax = 16 << 20 // a hundred thousand names

func readOrder(body io.Reader) (controlOrder, error) {
	var o controlOrder
	decoder := json.NewDecoder(io.LimitReader(body, orderBytesMax))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&o); err != nil {
		return o, fmt.Errorf("read order: %w", err)
	}
	return o, nil
}

func statusOf(err error) int {
	if errors.Is(err, ErrNotFound) {
		return http.StatusNotFound
	}
	return http.StatusBadRequest
}

func (e *Emulator) info() ControlInfo {
	info := ControlInfo{
		Online:       e.Online(),
		Endpoint:     e.URL(),
		Control:      e.ControlURL(),
		MQTT:         e.MQTTAddr(),
		Credentials:  e.CredentialURL(),
		Things:       e.registry.Things(),
		Certificates: e.registry.Certificates(),
		Authorities:  e.registry.RegisteredAuthorities(),
		Associated:   map[messages.ThingName]int{},
		Faults:       e.Faults(),
		Calls:        map[cloudsync.Operation]int{},
	}
	for _, route := range slices.Concat(e.dataRoutes, controlRoutes) {
		info.Calls[route.op] = e.Calls(route.op)
	}
	for _, route := range queryRoutes {
		info.Calls[route.op] = e.Calls(route.op)
	}
	for _, op := range slices.Concat(fault.Operations(fault.MQTT), fault.Operations(fault.Credentials)) {
		info.Calls[op] = e.Calls(op)
	}
	maps.DeleteFunc(info.Calls, func(_ cloudsync.Operation, n int) bool { return n == 0 })
	for _, core := range e.registry.Cores() {
		info.Associated[core] = e.registry.associatedCount(core)
	}
	return info
}
