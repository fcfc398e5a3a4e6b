package awsemu

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/gatehouse-edge/gatehouse/cloudsync"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// socketPathMax is what fits into a unix socket's address with room for the temporary
// name it is made under.
const socketPathMax = 90

// ControlInfo is what the emulated cloud tells about itself.
type ControlInfo struct {
	Online       bool                        `json:"online"`
	Endpoint     string                      `json:"endpoint"`
	Things       int                         `json:"things"`
	Certificates []CertificateInfo           `json:"certificates"`
	Fault        *Fault                      `json:"fault,omitempty"`
	Calls        map[cloudsync.Operation]int `json:"calls"`
}

// controlOrder is the body of every order: each takes the members it needs.
type controlOrder struct {
	Online      *bool                  `json:"online,omitempty"`
	Certificate messages.CertificateID `json:"certificate,omitempty"`
	Thing       messages.ThingName     `json:"thing,omitempty"`
	Status      Status                 `json:"status,omitempty"`
	Fault       *Fault                 `json:"fault,omitempty"`
	DER         []byte                 `json:"der,omitempty"` // base64 in JSON
}

// Paths of the control protocol: JSON over HTTP on a unix socket.
const (
	pathStatus      = "/v1/status"      // GET: ControlInfo
	pathOnline      = "/v1/online"      // POST: online
	pathCertificate = "/v1/certificate" // POST: certificate, status
	pathAttach      = "/v1/attach"      // POST: thing, certificate
	pathDetach      = "/v1/detach"      // POST: thing, certificate
	pathFault       = "/v1/fault"       // POST: fault
	pathEnroll      = "/v1/enroll"      // POST: thing, der
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
	order(pathEnroll, func(o controlOrder) error {
		return e.registry.Enroll(o.Thing, &Identity{ID: messages.CertificateIDOf(o.DER), DER: o.DER}, false)
	})
	order(pathFault, func(o controlOrder) error {
		if o.Fault == nil {
			o.Fault = &Fault{}
		}
		return e.SetFault(*o.Fault)
	})
	return mux
}

const orderBytesMax = faultBodyMax + 64<<10

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
		Things:       e.registry.Things(),
		Certificates: e.registry.Certificates(),
		Calls:        map[cloudsync.Operation]int{},
	}
	for op := range e.routes {
		info.Calls[op] = e.Calls(op)
	}
	if fault := e.Fault(); fault.set() {
		info.Fault = &fault
	}
	return info
}
