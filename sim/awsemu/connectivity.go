package awsemu

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// Operations by which a core publishes how to reach it and whom to trust there, and by
// which its client devices learn that (cloud spec 1.2, 1.7, 6).

type connectivityInfo struct {
	Addresses []Connectivity `json:"ConnectivityInfo"`
	Message   string         `json:"Message,omitempty"`
}

func (e *Emulator) getConnectivityInfo(c *call) (any, *apiError) {
	core, refused := e.coreParameter(c)
	if refused != nil {
		return nil, refused
	}
	addresses := e.registry.Connectivity(core)
	if addresses == nil {
		return nil, notFound("ConnectivityInfo", string(core))
	}
	return connectivityInfo{Addresses: addresses}, nil
}

type connectivityVersion struct {
	Version string `json:"Version"`
	Message string `json:"Message,omitempty"`
}

func (e *Emulator) updateConnectivityInfo(c *call) (any, *apiError) {
	core, refused := e.coreParameter(c)
	if refused != nil {
		return nil, refused
	}
	var request struct {
		Addresses []Connectivity `json:"ConnectivityInfo"`
	}
	if refused := readRequest(c.body, &request); refused != nil {
		return nil, refused
	}
	if request.Addresses == nil {
		return nil, validation("ConnectivityInfo is missing")
	}
	if err := checkConnectivity(request.Addresses); err != nil {
		return nil, validation(err.Error())
	}
	version, err := e.registry.SetConnectivity(core, e.now(), request.Addresses...)
	if err != nil {
		return nil, failed(err)
	}
	return connectivityVersion{Version: version}, nil
}

// coreParameter reads the first parameter of the path as the name of a core.
func (e *Emulator) coreParameter(c *call) (messages.ThingName, *apiError) {
	core, refused := thingParameter(c, "thingName")
	if refused == nil && !e.registry.isCore(core) {
		refused = notFound("Thing", string(core))
	}
	return core, refused
}

type authoritiesRequest struct {
	Core         string   `json:"coreDeviceThingName"`
	Certificates []string `json:"coreDeviceCertificates"`
}

func (e *Emulator) putCertificateAuthorities(c *call) (any, *apiError) {
	var request authoritiesRequest
	if refused := readRequest(c.body, &request); refused != nil {
		return nil, refused
	}
	core, err := messages.ParseThingName(request.Core)
	if err != nil || len(c.parameters) > 0 && c.parameters[0] != request.Core {
		return nil, validation("coreDeviceThingName is malformed, or not the path's")
	}
	if !e.registry.Attached(core, c.caller) {
		return nil, accessDenied(c)
	}
	var certificates [][]byte
	for _, text := range request.Certificates {
		certificates = append(certificates, []byte(text))
	}
	switch err := e.registry.PutAuthorities(core, e.cfg.AuthoritiesKept, certificates...); {
	case errors.Is(err, errSave):
		return nil, failed(err)
	case err != nil:
		return nil, validation("coreDeviceCertificates: " + err.Error())
	}
	return struct{}{}, nil
}

func failed(err error) *apiError {
	return &apiError{status: http.StatusInternalServerError, name: "InternalServerException", message: err.Error()}
}

func accessDenied(c *call) *apiError {
	refused := &apiError{
		status: http.StatusForbidden, name: "AccessDeniedException",
		message: fmt.Sprintf("the certificate has no policy that allows greengrass:%s", c.op),
	}
	if c.op == OpDiscover { // in its own words (cloud spec 1.7)
		refused.body = map[string]any{"message": nil, "traceId": requestID()}
	}
	return refused
}

// discovery is what a client device learns. Inside Connectivity names are in UpperCamel,
// whatever one example in AWS's documents shows (cloud spec 6).
type discovery struct {
	Groups []discoveredGroup `json:"GGGroups"`
}

type discoveredGroup struct {
	ID          string           `json:"GGGroupId"`
	Cores       []discoveredCore `json:"Cores"`
	Authorities []string         `json:"CAs"`
}

type discoveredCore struct {
	ARN       string         `json:"thingArn"`
	Addresses []Connectivity `json:"Connectivity"`
}

// discover answers a client device, which may ask about itself alone.
func (e *Emulator) discover(c *call) (any, *apiError) {
	device, err := messages.ParseThingName(c.parameters[0])
	if err != nil || !e.registry.Attached(device, c.caller) {
		return nil, accessDenied(c)
	}
	answer := discovery{}
	for _, g := range e.registry.groups(device) {
		answer.Groups = append(answer.Groups, discoveredGroup{
			ID:          "greengrassV2-coreDevice-" + string(g.core),
			Cores:       []discoveredCore{{thingARN(string(g.core)), g.addresses}},
			Authorities: g.authorities,
		})
	}
	if answer.Groups == nil {
		return nil, &apiError{
			status: http.StatusNotFound, name: "ResourceNotFoundException",
			body: map[string]any{"errorMessage": "The thing provided for discovery was not found"},
		}
	}
	return answer, nil
}
