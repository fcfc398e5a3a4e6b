package metrics

import (
	"time"

	"github.com/gatehouse-edge/gatehouse/cloudsync"

	"github.com/gatehouse-edge/gatehouse/actors/brokers"
	"github.com/gatehouse-edge/gatehouse/eventlog"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/projections"
)

// Snapshot is what there is to export at one moment.
type Snapshot struct {
	Version, Mode string
	Started       time.Time
	NowMs         int64 // trust time

	Requests []brokers.OpCounts
	Denials  map[messages.DenialClass]uint64
	Panics   int64 // of entities; those of requests are in Requests
	Entities int64 // resident

	Counts        projections.Counts
	SessionsLimit int
	// Trust is of TrustAt: walking over all devices takes its time.
	Trust   projections.TrustReport
	TrustAt time.Time
	Now     time.Time

	Cloud          *Cloud // nil: none is configured
	Refresh        projections.Refresh
	ClockUncertain bool

	Log      eventlog.Stat
	LogBytes uint64 // on disk
	// Problems says of each document whether what its file holds is not in force.
	Problems       map[string]bool
	PolicyRecord   uint64         // that put the policy in force
	CertificateEnd time.Time      // of the embedded broker; zero: it has none
	Certificates   *Certificates  // nil: there is no authority yet
	Credentials    *Credentials   // nil: none are handed out
	Registrations  *Registrations // nil: nobody is registered
}

// Registrations are of devices that nobody registered. The map's keys are a closed list.
type Registrations struct {
	Outcomes map[string]uint64 // accepted, denied; failed tries; overloaded
	Waiting  int
	GivenUp  int
	LastHour int // devices begun
}

// Credentials are the role's, and who asks for them. The maps' keys are closed lists.
type Credentials struct {
	Left     time.Duration     // until they end; 0: there are none
	Fetches  map[string]uint64 // by outcome
	HandOuts uint64
	Refused  map[string]uint64 // by reason
}

// Cloud is the state of the way to the cloud.
type Cloud struct {
	Reachable        bool
	Load             cloudsync.Load
	QueueSize, Limit int // how many may wait; how many may be asked at once
}
