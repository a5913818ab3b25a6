# The same as forward-events.yaml: once with a provider for podgrant's home region, for every region with clusters, and for
# the one where IAM's events appear (us-east-1 in the commercial partition).

data "aws_region" "current" {}

locals {
  policies = "${path.module}/../../policies"
  patterns = "${path.module}/../../../events/patterns/forward"
  rules    = toset([for file in fileset(local.patterns, "*.json") : trimsuffix(file, ".json")])
}

resource "aws_iam_role" "forward" {
  # IAM is global: each region's role needs a name of its own.
  name               = "${var.name}-${data.aws_region.current.name}"
  path               = "/podgrant/"
  assume_role_policy = templatefile("${local.policies}/trust.json", { service = "events.amazonaws.com" })
}

resource "aws_iam_role_policy" "forward" {
  name   = "forward-events"
  role   = aws_iam_role.forward.name
  policy = templatefile("${local.policies}/forward-events.json", { home_bus_arn = var.home_bus_arn })
}

resource "aws_cloudwatch_event_rule" "forward" {
  for_each = local.rules

  name          = "${var.name}-${each.key}"
  description   = "events/patterns/forward/${each.key}.json"
  event_pattern = jsonencode(jsondecode(replace(file("${local.patterns}/${each.key}.json"), "\"podgrant/\"", jsonencode(var.tag_prefix))))
}

resource "aws_cloudwatch_event_target" "forward" {
  for_each = local.rules

  rule      = aws_cloudwatch_event_rule.forward[each.key].name
  target_id = "podgrant"
  arn       = var.home_bus_arn
  role_arn  = aws_iam_role.forward.arn

  dead_letter_config {
    arn = aws_sqs_queue.dead_letters.arn
  }
}

# What did not reach the home bus in a day. The sweep makes up for it; that it is here means that forwarding is broken.
resource "aws_sqs_queue" "dead_letters" {
  name                      = "${var.name}-dead-letters"
  sqs_managed_sse_enabled   = true
  message_retention_seconds = 1209600
}

resource "aws_sqs_queue_policy" "dead_letters" {
  queue_url = aws_sqs_queue.dead_letters.url
  policy = templatefile("${local.policies}/dead-letters.json", {
    queue_arn = aws_sqs_queue.dead_letters.arn
    rule_arns = jsonencode([for rule in aws_cloudwatch_event_rule.forward : rule.arn])
  })
}

resource "aws_cloudwatch_metric_alarm" "dead_letters" {
  alarm_name          = "${var.name}-dead-letters"
  alarm_description   = "Events could not be forwarded to podgrant's home bus. See the attributes of the messages for why."
  namespace           = "AWS/SQS"
  metric_name         = "ApproximateNumberOfMessagesVisible"
  dimensions          = { QueueName = aws_sqs_queue.dead_letters.name }
  statistic           = "Maximum"
  period              = 300
  evaluation_periods  = 1
  threshold           = 0
  comparison_operator = "GreaterThanThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topic_arn != "" ? [var.alarm_topic_arn] : []
  ok_actions          = var.alarm_topic_arn != "" ? [var.alarm_topic_arn] : []
}
