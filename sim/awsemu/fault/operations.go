package fault

import (
	"slices"

	"github.com/gatehouse-edge/gatehouse/cloudsync"
)

// operations are those that a fault can strike, by plane.
var operations = map[cloudsync.Operation][]cloudsync.Operation{
	DataPlane:    slices.Concat(greengrassDataOperations, iotDataOperations),
	Credentials:  {AssumeRole},
	MQTT:         {Connect, Subscribe, Publish, Receive, GetShadow, UpdateShadow, DeleteShadow},
	ControlPlane: slices.Concat(greengrassOperations, iotOperations, certificateOperations, thingOperations, roleOperations, iamOperations, stsOperations, policyOperations, groupOperations, iotDataOperations, provisioningOperations),
}

var greengrassDataOperations = []cloudsync.Operation{
	cloudsync.OpVerifyIdentity, cloudsync.OpVerifyAssociation, cloudsync.OpPutAuthorities, "GetConnectivityInfo", "UpdateConnectivityInfo", "Discover",
}

// iotDataOperations are at both planes.
var iotDataOperations = []cloudsync.Operation{
	GetShadow, UpdateShadow, DeleteShadow, "ListNamedShadowsForThing", Publish, "GetRetainedMessage", "ListRetainedMessages",
	"GetConnection", "DeleteConnection", "ListSubscriptions",
}

var greengrassOperations = []cloudsync.Operation{
	"GetConnectivityInfo", "UpdateConnectivityInfo",
	"ListClientDevicesAssociatedWithCoreDevice", "BatchAssociateClientDeviceWithCoreDevice", "BatchDisassociateClientDeviceFromCoreDevice",
	"GetServiceRoleForAccount", "AssociateServiceRoleToAccount", "DisassociateServiceRoleFromAccount",
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

var roleOperations = []cloudsync.Operation{"CreateRoleAlias", "DescribeRoleAlias", "UpdateRoleAlias", "ListRoleAliases", "DeleteRoleAlias"}

// Those of IAM and STS have their service's prefix: IoT has a GetPolicy, too.
var iamOperations = []cloudsync.Operation{
	"iam:CreateRole", "iam:GetRole", "iam:ListRoles", "iam:UpdateRole", "iam:UpdateAssumeRolePolicy", "iam:DeleteRole",
	"iam:PutRolePolicy", "iam:GetRolePolicy", "iam:ListRolePolicies", "iam:DeleteRolePolicy",
	"iam:AttachRolePolicy", "iam:DetachRolePolicy", "iam:ListAttachedRolePolicies",
	"iam:CreatePolicy", "iam:GetPolicy", "iam:ListPolicies", "iam:DeletePolicy",
	"iam:CreatePolicyVersion", "iam:GetPolicyVersion", "iam:ListPolicyVersions", "iam:SetDefaultPolicyVersion", "iam:DeletePolicyVersion",
}

var stsOperations = []cloudsync.Operation{"sts:GetCallerIdentity", "sts:AssumeRole"}

var policyOperations = []cloudsync.Operation{
	"CreatePolicy", "GetPolicy", "ListPolicies", "DeletePolicy",
	"CreatePolicyVersion", "GetPolicyVersion", "ListPolicyVersions", "SetDefaultPolicyVersion", "DeletePolicyVersion",
	"AttachPolicy", "DetachPolicy", "AttachPrincipalPolicy", "DetachPrincipalPolicy",
	"ListAttachedPolicies", "ListPrincipalPolicies", "ListPolicyPrincipals", "ListTargetsForPolicy", "GetEffectivePolicies", "TestAuthorization",
}

var groupOperations = []cloudsync.Operation{
	"CreateThingGroup", "UpdateThingGroup", "DescribeThingGroup", "ListThingGroups", "DeleteThingGroup",
	"AddThingToThingGroup", "RemoveThingFromThingGroup", "ListThingGroupsForThing", "ListThingsInThingGroup",
}

var provisioningOperations = []cloudsync.Operation{
	"CreateProvisioningTemplate", "DescribeProvisioningTemplate", "UpdateProvisioningTemplate", "DeleteProvisioningTemplate", "ListProvisioningTemplates",
	"RegisterThing",
}

// Operations lists the operations of plane: DataPlane, ControlPlane, MQTT or Credentials.
func Operations(plane cloudsync.Operation) []cloudsync.Operation {
	return slices.Clone(operations[plane])
}
