package fault

import (
	"slices"

	"github.com/gatehouse-edge/gatehouse/cloudsync"
)

// operations are those that a fault can strike, by plane.
var operations = map[cloudsync.Operation][]cloudsync.Operation{
	DataPlane:    {cloudsync.OpVerifyIdentity, cloudsync.OpVerifyAssociation, cloudsync.OpPutAuthorities, "GetConnectivityInfo", "UpdateConnectivityInfo", "Discover"},
	MQTT:         {Connect, Subscribe, Publish, Receive, GetShadow, UpdateShadow, DeleteShadow},
	ControlPlane: slices.Concat(greengrassOperations, iotOperations, certificateOperations, thingOperations),
}

var greengrassOperations = []cloudsync.Operation{
	"GetConnectivityInfo", "UpdateConnectivityInfo",
	"ListClientDevicesAssociatedWithCoreDevice", "BatchAssociateClientDeviceWithCoreDevice", "BatchDisassociateClientDeviceFromCoreDevice",
}

var iotOperations = []cloudsync.Operation{"DescribeEndpoint"}

var certificateOperations = []cloudsync.Operation{
	"DescribeCertificate", "UpdateCertificate", "DeleteCertificate", "ListCertificates", "ListCertificatesByCA",
	"RegisterCertificate", "RegisterCertificateWithoutCA", "CreateKeysAndCertificate", "CreateCertificateFromCsr",
	"GetRegistrationCode", "DeleteRegistrationCode",
	"RegisterCACertificate", "DescribeCACertificate", "UpdateCACertificate", "DeleteCACertificate", "ListCACertificates",
}

var thingOperations = []cloudsync.Operation{
	"ListThings", "DescribeThing", "CreateThing", "UpdateThing", "DeleteThing",
	"AttachThingPrincipal", "DetachThingPrincipal", "ListThingPrincipals", "ListThingPrincipalsV2", "ListPrincipalThings", "ListPrincipalThingsV2",
	"CreateThingType", "DescribeThingType", "ListThingTypes", "DeprecateThingType", "DeleteThingType",
}

// Operations lists the operations of plane: DataPlane, ControlPlane or MQTT.
func Operations(plane cloudsync.Operation) []cloudsync.Operation {
	return slices.Clone(operations[plane])
}
