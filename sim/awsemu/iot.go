package awsemu

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// The IoT control plane's operations that ask about things and certificates.

const (
	principalsMax  = 250 // of a page, as with AWS
	principalsPage = 50
)

type validity struct {
	NotBefore epoch `json:"notBefore"`
	NotAfter  epoch `json:"notAfter"`
}

type certificateDescription struct {
	ARN          string   `json:"certificateArn"`
	ID           string   `json:"certificateId"`
	Status       Status   `json:"status"`
	PEM          string   `json:"certificatePem"`
	OwnedBy      string   `json:"ownedBy"`
	Created      epoch    `json:"creationDate"` // the registry keeps no other time than the certificate's own
	Modified     epoch    `json:"lastModifiedDate"`
	Version      int      `json:"customerVersion"`
	GenerationID string   `json:"generationId"`
	Validity     validity `json:"validity"`
	Mode         string   `json:"certificateMode"`
}

func (e *Emulator) describeCertificate(c *call) (any, *apiError) {
	id, err := messages.ParseCertificateID(strings.ToLower(c.parameters[0]))
	if err != nil {
		return nil, invalid(c, "1 validation error detected: Value at 'certificateId' failed to satisfy constraint: Member must be 64 hexadecimal digits")
	}
	der, status, ok := e.registry.certificate(id)
	if !ok {
		return nil, &apiError{status: http.StatusNotFound, name: "ResourceNotFoundException", message: "The specified certificate does not exist."}
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, &apiError{status: http.StatusInternalServerError, name: "InternalFailureException", message: err.Error()}
	}
	return map[string]certificateDescription{"certificateDescription": {
		ARN: certificateARN(string(id)), ID: string(id), Status: status, PEM: string(certificatePEM(der)), OwnedBy: AccountID,
		Created: epoch(leaf.NotBefore), Modified: epoch(leaf.NotBefore), Version: 1, GenerationID: derivedUUID("generation", string(id)),
		Validity: validity{epoch(leaf.NotBefore), epoch(leaf.NotAfter)}, Mode: "DEFAULT",
	}}, nil
}

func (e *Emulator) thingOf(c *call) (messages.ThingName, *apiError) {
	name, refused := thingParameter(c, "thingName")
	if refused == nil && !e.registry.hasThing(name) {
		refused = noThing(name)
	}
	return name, refused
}

func noThing(name messages.ThingName) *apiError {
	return &apiError{status: http.StatusNotFound, name: "ResourceNotFoundException", message: fmt.Sprintf("Thing %s cannot be found.", name)}
}

type thingDescription struct {
	Attributes map[string]string  `json:"attributes"`
	ClientID   messages.ThingName `json:"defaultClientId,omitempty"`
	ARN        string             `json:"thingArn"`
	ID         string             `json:"thingId,omitempty"`
	Name       messages.ThingName `json:"thingName"`
	Version    int                `json:"version"`
}

func (e *Emulator) describeThing(c *call) (any, *apiError) {
	name, refused := e.thingOf(c)
	if refused != nil {
		return nil, refused
	}
	return thingDescription{map[string]string{}, name, thingARN(string(name)), derivedUUID("thing", string(name)), name, 1}, nil
}

func (e *Emulator) listThings(c *call) (any, *apiError) {
	p, refused := e.pageOf(c, principalsPage, principalsMax)
	if refused != nil {
		return nil, refused
	}
	names, more := e.registry.thingNames(messages.ThingName(p.after), p.limit)
	names, next := turn(e, p, names, more, func(name messages.ThingName) string { return string(name) })
	answer := struct {
		Things    []thingDescription `json:"things"`
		NextToken string             `json:"nextToken,omitempty"`
	}{make([]thingDescription, len(names)), next}
	for i, name := range names {
		answer.Things[i] = thingDescription{Attributes: map[string]string{}, ARN: thingARN(string(name)), Name: name, Version: 1}
	}
	return answer, nil
}

// principals lists a page of the ARNs of a thing's certificates.
func (e *Emulator) principals(c *call) (arns []string, next string, refused *apiError) {
	name, refused := e.thingOf(c)
	if refused != nil {
		return nil, "", refused
	}
	p, refused := e.pageOf(c, principalsPage, principalsMax)
	if refused != nil {
		return nil, "", refused
	}
	ids, more, ok := e.registry.certificatesOf(name, messages.CertificateID(p.after), p.limit)
	if !ok {
		return nil, "", noThing(name)
	}
	ids, next = turn(e, p, ids, more, func(id messages.CertificateID) string { return string(id) })
	arns = make([]string, len(ids))
	for i, id := range ids {
		arns[i] = certificateARN(string(id))
	}
	return arns, next, nil
}

func (e *Emulator) listThingPrincipals(c *call) (any, *apiError) {
	arns, next, refused := e.principals(c)
	if refused != nil {
		return nil, refused
	}
	return struct {
		Principals []string `json:"principals"`
		NextToken  string   `json:"nextToken,omitempty"`
	}{arns, next}, nil
}

// nonExclusive is what every attachment here is: a certificate may belong to many things.
const nonExclusive = "NON_EXCLUSIVE_THING"

type thingPrincipal struct {
	Principal string `json:"principal"`
	Type      string `json:"thingPrincipalType"`
}

func (e *Emulator) listThingPrincipalsV2(c *call) (any, *apiError) {
	wanted := c.query.Get("thingPrincipalType")
	if wanted != "" && wanted != nonExclusive && wanted != "EXCLUSIVE_THING" {
		return nil, invalid(c, "1 validation error detected: Value at 'thingPrincipalType' failed to satisfy constraint: Member must satisfy enum value set: [EXCLUSIVE_THING, NON_EXCLUSIVE_THING]")
	}
	arns, next, refused := e.principals(c)
	if refused != nil {
		return nil, refused
	}
	answer := struct {
		Principals []thingPrincipal `json:"thingPrincipalObjects"`
		NextToken  string           `json:"nextToken,omitempty"`
	}{[]thingPrincipal{}, next}
	for _, arn := range arns {
		if wanted == "" || wanted == nonExclusive {
			answer.Principals = append(answer.Principals, thingPrincipal{arn, nonExclusive})
		}
	}
	return answer, nil
}

// describeEndpoint names the data plane, which is the account's IoT data endpoint too
// (cloud spec 0). AWS answers a host alone, whose ports are known; here the port is not,
// and is told.
func (e *Emulator) describeEndpoint(c *call) (any, *apiError) {
	if given := c.query.Get("endpointType"); given != "iot:Data-ATS" {
		return nil, invalid(c, fmt.Sprintf("Endpoint type %.60q is not supported: want iot:Data-ATS", given))
	}
	return map[string]string{"endpointAddress": e.data.addr}, nil
}

// derivedUUID gives an id that stays the same.
func derivedUUID(kind, name string) string {
	sum := sha256.Sum256([]byte(kind + "/" + name))
	return formatUUID(hex.EncodeToString(sum[:16]))
}
