package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

// startHTTP serves the state of the daemon to people and probes on this machine:
// /healthz, /status and /metrics. It shows no secret and changes nothing.
func (d *Daemon) startHTTP(context.Context) error {
	if d.cfg.HTTPListen == "" {
		return nil
	}
	host, _, err := net.SplitHostPort(d.cfg.HTTPListen)
	if err != nil {
		return fmt.Errorf("listen %q: %w", d.cfg.HTTPListen, err)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("listen %q: the status page is for this machine only; want such as 127.0.0.1:8480", d.cfg.HTTPListen)
	}
	listener, err := net.Listen("tcp", d.cfg.HTTPListen)
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler: d.handler(), ReadHeaderTimeout: 2 * time.Second, ReadTimeout: 5 * time.Second,
		WriteTimeout: 10 * time.Second, IdleTimeout: 30 * time.Second, MaxHeaderBytes: 8 << 10,
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			d.logger.Error("status page ended", "error", err)
		}
	})
	d.httpAddr = listener.Addr().String()
	d.onClose(func() {
		_ = server.Close() // who reads it will ask again
		wg.Wait()
	})
	return nil
}

func (d *Daemon) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/status", http.StatusFound)
	})
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, r *http.Request) {
		s, err := d.status(r.Context(), struct{}{})
		if err != nil {
			http.Error(w, "the status cannot be read; see the log", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		_ = e.Encode(s) // the reader went away
	})
	d.serveMetrics(mux)
	return onlyHere(mux)
}

// onlyHere refuses a browser that was lured here by another name (DNS rebinding).
func onlyHere(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = r.Host
		}
		if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			http.Error(w, "ask by the name localhost", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// HTTPURL is the status page; "" if there is none.
func (d *Daemon) HTTPURL() string {
	if d.httpAddr == "" {
		return ""
	}
	return "http://" + d.httpAddr + "/status"
}
