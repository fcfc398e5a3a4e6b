package daemon

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/gatehouse-edge/gatehouse/actors"
	"github.com/gatehouse-edge/gatehouse/cloudsync"
	"github.com/gatehouse-edge/gatehouse/cloudsync/shadow"
)

// uploader makes who tells the cloud of the authorities; nil: nobody does, and devices get
// them by other means.
func (d *Daemon) uploader() (actors.Uploader, error) {
	cloud, reached := d.cloud.(*cloudsync.Cloud)
	if d.cfg.Authorities == nil || !reached {
		return nil, nil
	}
	u, err := cloudsync.NewUploader(cloudsync.UploaderConfig{Put: d.cfg.Authorities.Put, NetworkUp: cloud.NetworkUp, Log: d.logger})
	if err != nil {
		return nil, err
	}
	d.onClose(d.cfg.Authorities.Close)
	cloud.OnNetworkChange(u.NetworkChanged)
	d.uploads = u
	return u, nil
}

// followAddresses brings the core's addresses, as the cloud has them, into the servers'
// certificates. Nothing waits for the cloud: what it said last is in the log.
func (d *Daemon) followAddresses(context.Context) error {
	cloud, reached := d.cloud.(*cloudsync.Cloud)
	if d.cfg.Addresses == nil || !reached {
		return nil
	}
	cfg := *d.cfg.Addresses
	cfg.Keeper, cfg.OnLink, cfg.Now, cfg.Log = d.authority.Load(), cloud.Observe, d.tlsTime, d.logger
	follower, err := shadow.New(cfg)
	if err != nil {
		return err
	}
	d.follower = follower
	d.onClose(follower.Close)
	cloud.OnNetworkChange(follower.NetworkChanged)
	return nil
}

// AddressReport says how the core's addresses in the cloud are followed.
type AddressReport struct {
	Connected bool   `json:"connected"` // to AWS IoT, which tells of changes
	Problem   string `json:"problem,omitempty"`
	Version   string `json:"version,omitempty"` // of the connectivity information that was taken last, since the start
}

// addressReport is nil if they are not followed.
func (d *Daemon) addressReport() *AddressReport {
	if d.follower == nil {
		return nil
	}
	s := d.follower.State()
	r := &AddressReport{Connected: s.Up, Version: s.Handled.Version}
	_ = json.Unmarshal([]byte(s.Handled.Version), &r.Version) // it may be any JSON: then it is shown as it is
	switch {
	case s.Err != nil:
		r.Problem = fmt.Sprintf("the addresses are not known yet: %v", s.Err)
	case !s.Up && s.LinkErr != nil:
		r.Problem = s.LinkErr.Error()
	}
	return r
}
